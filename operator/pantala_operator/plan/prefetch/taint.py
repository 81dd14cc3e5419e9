"""When a startup taint may go. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from datetime import datetime, timedelta

from pantala_operator.resources.api import Node
from pantala_operator.resources.prefetch import StartupTaint


@dataclass(frozen=True, slots=True)
class Vote:
    """What one ImagePrefetch says of a taint on the nodes that it targets."""

    key: str
    keep: frozenset[str] = frozenset()
    """Nodes that are not ready yet."""
    release: frozenset[str] = frozenset()
    """Nodes that are ready, or have waited for long enough."""


def vote(
    taint: StartupTaint, targets: Iterable[str], nodes: Mapping[str, Node], ready: Set[str], now: datetime
) -> tuple[Vote, datetime | None]:
    """The vote on the targets that have the taint, and when it changes at the latest."""
    keep, release, wake = set(), set(), None
    for name in targets:
        node = nodes.get(name)
        if node is None or not has(node, taint.key):
            continue
        until = (node.metadata.creation_timestamp or now) + timedelta(seconds=taint.deadline_seconds)
        if name in ready or now >= until:
            release.add(name)
        else:
            keep.add(name)
            wake = until if wake is None else min(wake, until)
    return Vote(taint.key, frozenset(keep), frozenset(release)), wake


def removable(votes: Iterable[Vote]) -> Mapping[str, frozenset[str]]:
    """The nodes from which each taint may go: somebody releases it there, nobody keeps it."""
    keep: dict[str, set[str]] = {}
    release: dict[str, set[str]] = {}
    for each in votes:
        keep.setdefault(each.key, set()).update(each.keep)
        release.setdefault(each.key, set()).update(each.release)
    return {key: frozenset(nodes - keep[key]) for key, nodes in release.items() if nodes - keep[key]}


def has(node: Node, key: str) -> bool:
    """Whether ``node`` has a taint of that key, whatever its value and effect."""
    return any(taint.key == key for taint in node.spec.taints)
