"""The nodes of one Task with a file: the state of each node, and why a late or failed node lacks the file. Pure."""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Set
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from operator import itemgetter
from typing import Final, NamedTuple, Self, TypeVar

from pantala_operator.resources.api import LateNode
from pantala_operator.resources.conditions import Verdict
from pantala_operator.resources.status import advised, no
from pantala_protocol import reasons
from pantala_protocol.console.progress import NodeDownload
from pantala_protocol.console.views import NodeCounts, NodeFlow, NodePhase, NodeView
from pantala_protocol.reasons import Advice, Reason, Retry
from pantala_protocol.statement import Failure

T = TypeVar("T")

MAX_NODES: Final = 10
"""The most late and failed nodes that a status names."""
SUPERNODE: Final = "supernode"
"""The provider's name in a flow from the supernode."""
_LAST_SECOND: Final = 1 << 37
"""The latest accepted time, in seconds since the epoch."""


class Trouble(NamedTuple):
    """Why a node, or the supernode, gets too few bytes."""

    reason: str
    message: str
    """What happened, without the advice."""
    action: str
    """What the user can do next, as a sentence."""
    since: float
    """Seconds since the epoch."""

    @classmethod
    def of(cls, reason: str, what: str, since: float) -> Self:
        return cls(reason, what, reasons.action_of(reason), since)

    @classmethod
    def of_failure(cls, failure: Failure) -> Self:
        """The trouble of a node that reports a failure.

        A node fetches a wrong file again, so ``DigestMismatch`` has no advice.
        """
        found = cls.of(failure.reason, failure.message or failure.reason, 0)
        return found._replace(action="") if failure.reason == Reason.DIGEST_MISMATCH else found

    @property
    def text(self) -> str:
        """The message with the advice."""
        return advised(self.message, Advice(Retry.SOON, self.action) if self.action else None)

    @property
    def begun(self) -> datetime:
        return moment(self.since)


class SourceBytes(NamedTuple):
    """Bytes by their source: all so far, or those per second."""

    origin: int = 0
    supernode: int = 0
    peers: int = 0

    @classmethod
    def total(cls, each: Iterable[Self]) -> Self:
        return cls(*map(sum, zip(*each, strict=True)))


@dataclass(frozen=True, slots=True)
class TaskDownloads:
    """What is known about the downloads of one task now."""

    nodes: Mapping[str, NodeDownload] = field(default_factory=dict)
    """The unfinished downloads, by node."""
    troubles: Mapping[str, Trouble] = field(default_factory=dict)
    """Why nodes get too few bytes of this task."""
    silent: Mapping[str, Trouble] = field(default_factory=dict)
    """The peers of the cluster that do not report to the supernodes."""
    source: Trouble | None = None
    """Why the supernode gets too few bytes."""
    origin_rate: int = 0
    origin_pace: int = 0
    """The rate since the first bytes arrived, from which the time left is computed."""

    @property
    def rates(self) -> SourceBytes:
        """Bytes per second. Messages leave out the providers with the fewest bytes. These count as peers."""
        nodes = self.nodes.values()
        supernode = sum(flow.rate for node in nodes for flow in node.flows if not flow.provider)
        return SourceBytes(self.origin_rate, supernode, max(0, sum(node.rate for node in nodes) - supernode))


@dataclass(frozen=True)
class TaskNodes:
    """The nodes of one Task. Each is in one of the states, in this order: ready, failed, late, fetching, waiting."""

    desired: Set[str] = frozenset()
    holders: Set[str] = frozenset()
    """The nodes that have the file. It may contain nodes that are not desired."""
    failures: tuple[Failure, ...] = ()
    """The failures that the supernode reports. If there are many, it reports only some of them."""
    failing: int = 0
    """How many nodes the supernode reports as failed."""
    active: int = 0
    """How many nodes the supernode reports as downloading."""
    downloads: TaskDownloads = field(default_factory=TaskDownloads)
    overdue: Trouble | None = None
    """Set if ``spec.timeoutSecondsPerNode`` has passed. Nodes without the file have then failed, except ``young``."""
    young: Set[str] = frozenset()
    """The nodes that joined the cluster less than ``spec.timeoutSecondsPerNode`` ago."""
    length: int | None = None
    """The bytes of the file."""
    zones: Mapping[str, str] = field(default_factory=dict)
    """The zone of each node. Nodes without a zone are missing."""

    @cached_property
    def ready(self) -> int:
        return len(self.desired & self.holders)

    @cached_property
    def failed(self) -> Mapping[str, Trouble]:
        """The failed nodes with their reasons, as far as they are known by name."""
        found = {}
        for each in self.failures:
            if each.peer in self.desired and each.peer not in self.holders:
                found[each.peer] = Trouble.of_failure(each)
        if self.overdue is not None:
            found |= dict.fromkeys(sorted(self._timed_out - found.keys()), self.overdue)
        return found

    @cached_property
    def late(self) -> Mapping[str, Trouble]:
        """The late nodes with their reasons. A node that has failed is not late."""
        failed = {each.peer for each in self.failures} | self._timed_out
        troubles, silent = self.downloads.troubles, self.downloads.silent
        names = ((troubles.keys() | silent.keys()) & self.desired) - self.holders - failed
        return {name: silent.get(name) or troubles[name] for name in sorted(names)}

    @property
    def counts(self) -> NodeCounts:
        """The numbers of nodes in each state. Their sum is the number of desired nodes."""
        desired, ready, late = len(self.desired), self.ready, len(self.late)
        failed = min(max(self.failing, len(self._timed_out)), desired - ready - late)
        fetching = max(min(self.active, desired - ready - failed - late), 0)
        return NodeCounts(desired, ready, fetching, desired - ready - failed - late - fetching, late, failed)

    def views(self) -> tuple[NodeView, ...]:
        """All nodes, sorted by their names."""
        late, failed = self.late, self.failed
        return tuple(self._view(name, late.get(name), failed.get(name)) for name in sorted(self.desired))

    def _view(self, name: str, late: Trouble | None, failed: Trouble | None) -> NodeView:
        zone = self.zones.get(name, "")
        if name in self.holders:
            return NodeView(name, NodePhase.READY, zone, self.length or 0)
        found, trouble = self.downloads.nodes.get(name, NodeDownload(name)), failed or late
        phase = NodePhase.FETCHING if found.bytes or found.rate else NodePhase.WAITING
        if trouble is not None:
            phase = NodePhase.FAILED if failed is not None else NodePhase.LATE
        known = self.length is not None and found.pace > 0
        return NodeView(
            name,
            phase,
            zone,
            bytes=found.bytes,
            rate=found.rate,
            eta=max((self.length or 0) - found.bytes, 0) / found.pace if known else None,
            reason=trouble.reason if trouble is not None else "",
            message=trouble.message if trouble is not None else "",
            action=trouble.action if trouble is not None else "",
            since=trouble.since or None if trouble is not None else None,
            flows=tuple(NodeFlow(each.provider or SUPERNODE, each.bytes, each.rate) for each in found.flows),
        )

    @cached_property
    def _timed_out(self) -> Set[str]:
        return self.desired - self.holders - self.young if self.overdue is not None else frozenset()


def moment(seconds: float) -> datetime:
    """A time that a supernode reports, which may be wrong."""
    return datetime.fromtimestamp(int(min(max(seconds, 0), _LAST_SECOND)), UTC)


def counted(views: Iterable[NodeView]) -> NodeCounts:
    states = [each.state for each in views]
    return NodeCounts(
        len(states), *(states.count(phase) for phase in (
            NodePhase.READY, NodePhase.FETCHING, NodePhase.WAITING, NodePhase.LATE, NodePhase.FAILED,
        ))
    )  # fmt: skip


def share_of_copies(cached: float, arrived: float, nodes: int) -> float:
    """The progress of an unfinished file, at most 0.99.

    ``cached``: the share of the file at the supernode, from 0 to 1. ``arrived``: the sum of the shares at all ``nodes``
    nodes.
    """
    return min((cached + arrived) / (1 + nodes), 0.99)


def listed(late: Mapping[str, Trouble], room: int = MAX_NODES) -> tuple[LateNode, ...]:
    """At most ``room`` late nodes for the status."""
    names = varied(sorted(late), lambda name: late[name].reason)[:room]
    return tuple(LateNode(name, late[name].reason, late[name].text, late[name].begun) for name in names)


def varied(found: Iterable[T], *keys: Callable[[T], Hashable]) -> list[T]:
    """Sort so that the first entries differ as much as possible: first by the first key, then by the next keys."""
    seen: Counter[Hashable] = Counter()
    ranked = []
    for each in found:
        values = [(number, key(each)) for number, key in enumerate(keys)]
        ranked.append(([seen[value] for value in values], each))
        seen.update(values)
    return [each for _, each in sorted(ranked, key=itemgetter(0))]


def late_verdict(progress: str, late: Mapping[str, Trouble]) -> Verdict:
    """The condition that names the node with the oldest trouble, so that the condition stays the same."""
    name = min(late, key=lambda each: (late[each].since, each))
    others = f" and {len(late) - 1} more" if len(late) > 1 else ""
    return no(late[name].reason, f"{progress}. {name}{others}: {late[name].text}")


def overdue(seconds: int | None, started: datetime | None, now: datetime) -> Trouble | None:
    """The failure of each node without the file, once ``seconds`` have passed since the start."""
    if seconds is None or started is None or (now - started).total_seconds() < seconds:
        return None
    what = f"The node does not have the file after {seconds} s"
    return Trouble.of(Reason.NODE_TIMEOUT, what, started.timestamp() + seconds)
