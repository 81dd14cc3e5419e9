"""Decides when a startup taint is removed from a node, and what a node's condition says about its images. Pure.

Each ImagePrefetch with a startup taint votes on the nodes that it targets. A node waits if at least one vote says so.
"""

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from pantala_operator.plan.targets import choose
from pantala_operator.resources.api import IMAGES_READY, Node, Target
from pantala_operator.resources.conditions import Verdict
from pantala_operator.resources.prefetch import StartupTaint
from pantala_operator.resources.status import no, yes

_MOST_SECONDS: Final = 900
"""The longest deadline of ImagePrefetches outside of the operator's own namespace.

All namespaces use the nodes, and a user whose image never arrives must not keep new nodes empty for a day.
"""


class NodeRights(NamedTuple):
    """What the operator may change at nodes."""

    taints: tuple[str, ...] = ()
    """The keys of the taints that the operator may remove. A key that ends with ``/`` is a prefix."""
    condition: bool = False
    """True if the operator may write the condition ``pantala.dev/ImagesReady``."""

    def may_remove(self, key: str) -> bool:
        return any(key.startswith(each) if each.endswith("/") else key == each for each in self.taints)


@dataclass(frozen=True, slots=True)
class TaintVote:
    """The vote of one ImagePrefetch on its target nodes."""

    key: str
    """The key of the ImagePrefetch's startup taint."""
    keep: frozenset[str] = frozenset()
    """The tainted nodes that must keep the taint, because they do not have all images yet."""
    release: frozenset[str] = frozenset()
    """The tainted nodes that may lose the taint: they have all images, or the deadline has passed."""
    waiting: frozenset[str] = frozenset()
    """All nodes that do not have all images yet, before the deadline."""
    ready: frozenset[str] = frozenset()
    """All other target nodes."""


def vote(
    taint: StartupTaint,
    targets: Iterable[str],
    nodes: Mapping[str, Node],
    ready: Set[str],
    rights: NodeRights,
    now: datetime,
    *,
    privileged: bool = False,
    peerless: Iterable[str] = (),
) -> tuple[TaintVote, datetime | None, Verdict]:
    """The vote on the target nodes, the time at which a deadline changes it, and whether the taint may be removed.

    ``privileged``: the ImagePrefetch is in the operator's own namespace. ``peerless``: the nodes that match, but have
    no peer that takes images. They never get the images, so only the deadline removes their taint.
    """
    waiting, released, wake = set(), set(), None
    seconds = taint.deadline_seconds if privileged else min(taint.deadline_seconds, _MOST_SECONDS)
    chosen, others = tuple(targets), tuple(peerless)
    known = ((name, nodes[name]) for name in (*chosen, *others) if name in nodes)
    tainted = {name for name, node in known if any(each.key == taint.key for each in node.spec.taints)}
    for name in (*chosen, *(each for each in others if each in tainted)):
        node = nodes.get(name)
        if node is None:
            continue
        until = (node.metadata.creation_timestamp or now) + timedelta(seconds=seconds)
        if name in ready or now >= until:
            released.add(name)
        else:
            waiting.add(name)
            wake = until if wake is None else min(wake, until)
    made = TaintVote(
        taint.key,
        keep=frozenset(waiting & tainted),
        release=frozenset(released & tainted),
        waiting=frozenset(waiting),
        ready=frozenset(released),
    )
    return made, wake, _removal(taint.key, rights, shortened=seconds < taint.deadline_seconds)


def unknown_vote(
    taint: StartupTaint, target: Target, nodes: Mapping[str, Node], now: datetime, *, privileged: bool
) -> tuple[TaintVote, datetime | None]:
    """The vote of an ImagePrefetch without a plan, and the time at which a deadline changes it.

    An ImagePrefetch has no plan right after a restart, or if it cannot be planned. So every node waits until the
    deadline. Then the tainted nodes that the target selects by name and labels lose the taint.
    """
    made, wake, _ = vote(taint, nodes, nodes, frozenset(), NodeRights(), now, privileged=privileged)
    selected = choose(target, "", nodes, {}, frozenset()).passed_over  # without peers: all that match
    over = made.release & selected.keys()
    return replace(made, release=over, ready=over), wake


def removable(votes: Iterable[TaintVote], rights: NodeRights) -> Mapping[str, frozenset[str]]:
    """The nodes from which each taint is removed, by its key: it may be, a vote releases it, and no vote keeps it."""
    keep: dict[str, set[str]] = {}
    release: dict[str, set[str]] = {}
    for each in votes:
        if rights.may_remove(each.key):
            keep.setdefault(each.key, set()).update(each.keep)
            release.setdefault(each.key, set()).update(each.release)
    return {key: frozenset(nodes - keep[key]) for key, nodes in release.items() if nodes - keep[key]}


def node_conditions(
    votes: Iterable[TaintVote], nodes: Mapping[str, Node], unknown: Sequence[TaintVote] = ()
) -> Mapping[str, Verdict]:
    """What the condition ``pantala.dev/ImagesReady`` of each node must say, by node.

    A node without a vote has the condition only if it had one before. Such a node waits for no image any more.
    ``unknown``: the votes of ImagePrefetches without a plan. Before its deadline, such a vote prevents that the
    condition becomes True. While there is one, all other nodes keep their condition.
    """
    waiting, ready, held = set[str](), set[str](), set[str]()
    for each in votes:
        waiting |= each.waiting
        ready |= each.ready
    for each in unknown:
        held |= each.waiting
        ready |= each.ready
    found = dict.fromkeys(waiting, _WAITING) | dict.fromkeys(ready - waiting - held, _PRESENT)
    if unknown:
        return found
    former = {name for name, node in nodes.items() if node.images_ready is not None}
    return found | dict.fromkeys(former - waiting - ready, _UNWANTED)


def _removal(key: str, rights: NodeRights, *, shortened: bool) -> Verdict:
    """The condition ``StartupTaintRemovable`` of an ImagePrefetch with a startup taint."""
    limit = f". The deadline is {_MOST_SECONDS} s, the longest one outside of the operator's own namespace"
    if rights.may_remove(key):
        return yes("Listed", f"The operator removes the taint {key} from nodes that are ready{limit * shortened}")
    other = (
        f"let the Node Readiness Controller remove it when the node condition {IMAGES_READY} is True"
        if rights.condition
        else "set prefetch.nodeCondition and let the Node Readiness Controller remove it"
    )
    return no(
        "NotListed",
        f"The operator does not remove the taint {key}. Add the key to the chart's value prefetch.startupTaints, "
        f"or {other}{limit * shortened}.",
    )


_WAITING = no("ImagesMissing", "An ImagePrefetch still brings images to this node")
_PRESENT = yes("ImagesPresent", "The node has its images, or the deadline of the startup taint has passed")
_UNWANTED = yes("NothingWanted", "No ImagePrefetch with a startup taint selects this node")
