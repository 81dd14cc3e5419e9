"""Decides when a startup taint is removed from a node. Pure.

Each ImagePrefetch with a startup taint votes on the nodes that it targets: one vote to keep the taint is enough.
"""

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from datetime import datetime, timedelta

from pantala_operator.resources.api import Node
from pantala_operator.resources.prefetch import StartupTaint


@dataclass(frozen=True, slots=True)
class TaintVote:
    """The vote of one ImagePrefetch on its startup taint."""

    key: str
    keep: frozenset[str] = frozenset()
    """The nodes that must keep the taint, because they do not have all images yet."""
    release: frozenset[str] = frozenset()
    """The nodes that may lose the taint: they have all images, or the deadline has passed."""


def vote(
    taint: StartupTaint, targets: Iterable[str], nodes: Mapping[str, Node], ready: Set[str], now: datetime
) -> tuple[TaintVote, datetime | None]:
    """The vote on the target nodes that have the taint, and the time at which a deadline changes it."""
    keep, release, wake = set(), set(), None
    for name in targets:
        node = nodes.get(name)
        if node is None or all(each.key != taint.key for each in node.spec.taints):
            continue
        until = (node.metadata.creation_timestamp or now) + timedelta(seconds=taint.deadline_seconds)
        if name in ready or now >= until:
            release.add(name)
        else:
            keep.add(name)
            wake = until if wake is None else min(wake, until)
    return TaintVote(taint.key, frozenset(keep), frozenset(release)), wake


def removable(votes: Iterable[TaintVote]) -> Mapping[str, frozenset[str]]:
    """The nodes from which each taint may be removed, by its key: a vote releases it there, and no vote keeps it."""
    keep: dict[str, set[str]] = {}
    release: dict[str, set[str]] = {}
    for each in votes:
        keep.setdefault(each.key, set()).update(each.keep)
        release.setdefault(each.key, set()).update(each.release)
    return {key: frozenset(nodes - keep[key]) for key, nodes in release.items() if nodes - keep[key]}
