"""The reports that this peer must still send to one supernode, and the supernode's newest data. Pure.

A report is complete when its exchange is answered. Until then, the peer repeats the unchanged exchange. After a
restart, the supernode requests the peer's inventory, and the peer then reports its complete state.
"""

import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from msgspec import structs

from pantala_protocol import ranges
from pantala_protocol.images import NodeOrders, PullState, RuntimeState
from pantala_protocol.sync import (
    MAX_ENTRIES,
    Assignment,
    DeliveryState,
    HeldPieces,
    PieceFailure,
    SyncAnswer,
    SyncRequest,
    WantedBlob,
)

_T = TypeVar("_T")

_MAX_UNDER_WAY = 2
"""The most open exchanges: the supernode holds the first, and the second has new reports."""

_MAX_FAILURES = 1000
"""The most failures that are kept while the supernode is unreachable. The oldest are dropped first."""


@dataclass(frozen=True, slots=True)
class NodeState:
    """The node's state in each exchange."""

    port: int
    uploads: Callable[[], int]
    cache_bytes: Callable[[], int]
    inventory: Callable[[], dict[str, HeldPieces]]
    busy: Callable[[], bool]
    """Returns True if a further download would have to wait."""
    left: Callable[[], int]
    """Returns the number of assigned pieces that the node has not received yet."""
    window: Callable[[], int]
    """Returns how many assigned pieces the node can use at once."""
    wall: Callable[[], float] = time.time
    """Returns the node's time in seconds since the epoch."""


class SupernodeSession:
    """The exchanges of this process with one supernode.

    ``identity`` has the constant fields of each request. All sessions of a process share ``numbers``, from which the
    exchanges get their ``seq``. So two sessions with the same supernode use different numbers.
    """

    def __init__(self, identity: SyncRequest, numbers: Iterator[int] | None = None) -> None:
        self.supernode = ""
        """The boot ID of the supernode process that sent the last answer."""
        self.revision = 0
        """The revision of the newest assignments from this supernode."""
        self.images = 0
        """The revision of the newest orders from this supernode. 0 without orders."""
        self.key = b""
        """The key that verifies this supernode's tickets. Empty until its first answer."""
        self._identity = identity
        self._numbers = numbers or itertools.count(1)
        self._seq = 0
        self._latest = 0
        self._under_way: dict[int, SyncRequest] = {}
        self._inventory_due = True
        self._done: dict[str, tuple[str, int]] = {}
        self._failures: list[PieceFailure] = []
        self._states: dict[str, DeliveryState] = {}
        self._changed: dict[str, None] = {}
        self._urgent = False
        self._named: set[str] = set()
        self._tasks: frozenset[str] = frozenset()
        self._new_tasks: set[str] = set()
        self._wants: dict[str, WantedBlob] = {}
        self._pulls: dict[str, PullState] | None = None
        self._pulls_due = False
        self._runtime: RuntimeState | None = None
        self._runtime_due = False

    # Reports. A report that is not urgent waits for the next exchange.

    def piece_done(self, task_id: str, generation: str, piece: int) -> None:
        """Report a verified piece. Other peers can download it now."""
        known, mask = self._done.get(task_id, (generation, 0))
        self._done[task_id] = (generation, 1 << piece | (mask if known == generation else 0))

    def piece_failed(self, failure: PieceFailure) -> None:
        self._failures = [*self._failures, failure][-_MAX_FAILURES:]

    def delivery(self, uid: str, state: DeliveryState | None, *, urgent: bool = True) -> None:
        """Report the state of the delivery ``uid`` if the state has changed. ``None``: not published."""
        if self._states.get(uid) == state:
            return
        if state is None:
            del self._states[uid]
        else:
            self._states[uid] = state
        self._changed[uid] = None
        self._urgent = self._urgent or urgent

    def want(self, wants: dict[str, WantedBlob]) -> None:
        """Report all blobs that the node waits for. If only a position changed, the report is not urgent."""
        self._urgent = self._urgent or _stalls(wants) != _stalls(self._wants)
        self._wants = wants

    def report_pulls(self, pulls: dict[str, PullState], *, urgent: bool = True) -> None:
        """Report the state of all ordered images."""
        if pulls != self._pulls:
            self._pulls, self._pulls_due = dict(pulls), True
            self._urgent = self._urgent or urgent

    def report_runtime(self, runtime: RuntimeState, *, urgent: bool = True) -> None:
        """Report the state of the node's container runtime."""
        if runtime != self._runtime:
            self._runtime, self._runtime_due = runtime, True
            self._urgent = self._urgent or urgent

    def inventory_changed(self) -> None:
        """Report all pieces in the next exchange, because a reported piece is lost."""
        self._inventory_due = True

    # Exchanges

    @property
    def has_news(self) -> bool:
        """True if there are reports for which an exchange must begin. All other reports wait for the next exchange."""
        return bool(self._done or self._failures) or self.has_urgent_news

    @property
    def has_failures(self) -> bool:
        """True if a failed piece is not reported yet. The supernode needs the report to choose another provider."""
        return bool(self._failures)

    @property
    def has_urgent_news(self) -> bool:
        """True if there are reports for which the supernode or a program waits."""
        return bool(self._inventory_due or self._urgent or self._new_tasks)

    def is_latest(self, seq: int) -> bool:
        return seq == self._seq

    @property
    def may_begin(self) -> bool:
        """True if no exchange is under way, or if there are reports for a second exchange.

        An inventory replaces the supernode's data about the peer, so a later exchange must not overtake the inventory.
        """
        if not self._under_way:
            return True
        alone = any(request.inventory is not None for request in self._under_way.values())
        return self.has_news and not alone and len(self._under_way) < _MAX_UNDER_WAY

    def begin(self, node: NodeState, *, leaving: bool = False) -> SyncRequest:
        """Begin the next exchange, with all reports. Repeat it until :meth:`answered` or :meth:`abandon` is called."""
        self._seq = next(self._numbers)
        whole = self._inventory_due
        held = node.inventory() if whole or self._new_tasks else {}
        if not whole:
            for name in self._new_tasks & held.keys():
                self._done[name] = (held[name].generation, ranges.parse(held[name].pieces))
        if whole:
            self._done |= {name: (each.generation, ranges.parse(each.pieces)) for name, each in _after(held)}
            self._changed |= dict.fromkeys(self._states)
        done, changed = dict(_first(self._done)), [uid for uid, _ in _first(self._changed)]
        request = structs.replace(
            self._identity,
            seq=self._seq,
            supernode=self.supernode,
            revision=self.revision,
            port=node.port,
            inventory=dict(_first(held)) if whole else None,
            done={name: HeldPieces(generation, ranges.render(mask)) for name, (generation, mask) in done.items()},
            failures=tuple(self._failures),
            deliveries={uid: self._states.get(uid) for uid in changed},
            wants=dict(_first(self._wants)),
            images=self.images,
            pulls=self._pulls if self._pulls_due or whole else None,
            runtime=self._runtime if self._runtime_due or whole else None,
            uploads=node.uploads(),
            cache_bytes=node.cache_bytes(),
            window=node.window(),
            clock=int(node.wall()),
            leaving=leaving,
        )
        self._done, self._changed, self._failures = dict(_after(self._done)), dict(_after(self._changed)), []
        self._inventory_due = self._pulls_due = self._runtime_due = False
        self._urgent = bool(self._changed)
        self._new_tasks.clear()
        self._under_way[request.seq] = request
        return request

    def answered(self, seq: int, answer: SyncAnswer) -> SyncAnswer:
        """Apply the answer to exchange ``seq``, and return it without outdated orders. Answers may be out of order."""
        request = self._under_way.pop(seq, None)
        nothing = SyncAnswer(answer.supernode, seq)
        if request is None:
            return nothing
        newest = seq > self._latest
        if answer.supernode != self.supernode:
            if not newest:
                self.inventory_changed()  # an earlier process of the supernode received these reports
                return nothing
            self._connect(answer.supernode, request)
        if answer.inventory_wanted:
            self.revision = self.images = 0
            self._inventory_due = True
        if newest:
            self._latest = seq
            self.key = bytes.fromhex(answer.key) if answer.key else self.key
        images, assignments = self._new_images(answer, newest=newest), self._new_assignments(answer, newest=newest)
        return structs.replace(answer, images=images, assignments=assignments)

    def abandon(self, seq: int) -> None:
        """End exchange ``seq``, which the supernode rejected. The next exchange has its reports and the inventory."""
        request = self._under_way.pop(seq)
        self._inventory_due = True
        self._failures = [*request.failures, *self._failures][-_MAX_FAILURES:]
        self._changed = dict.fromkeys(request.deliveries) | self._changed

    def _new_images(self, answer: SyncAnswer, *, newest: bool) -> NodeOrders | None:
        """The answer's orders, if they are newer than this supernode's last orders."""
        orders = answer.images
        if orders is None or orders.revision == self.images or (orders.revision < self.images and not newest):
            return None
        self.images = orders.revision
        return orders

    def _new_assignments(self, answer: SyncAnswer, *, newest: bool) -> tuple[Assignment, ...] | None:
        """The answer's assignments, if they are newer than the assignments in force."""
        if answer.assignments is None:
            return None
        if answer.revision <= self.revision:
            if newest and answer.revision < self.revision:
                self.revision = 0  # a repeated answer, or the supernode counts from 1 again: request all assignments
            return None
        self.revision = answer.revision
        self._report_again(answer.assignments)
        return answer.assignments

    def _report_again(self, assignments: tuple[Assignment, ...]) -> None:
        """Report newly assigned tasks and deliveries again, because the supernode ignored their earlier reports."""
        named = {delivery.uid for assignment in assignments for delivery in assignment.deliveries}
        for uid in sorted(named - self._named):
            if uid in self._states:
                self._changed[uid] = None
                self._urgent = True
        self._named = named
        tasks = frozenset(assignment.task_id for assignment in assignments)
        self._new_tasks |= tasks - self._tasks
        self._tasks = tasks

    def _connect(self, supernode: str, request: SyncRequest) -> None:
        self.supernode = supernode
        self.revision = self.images = 0
        self._named, self._tasks = set(), frozenset()
        if request.inventory is None:
            self._inventory_due = True


def _stalls(wants: dict[str, WantedBlob]) -> dict[str, int]:
    """How often the demand for each blob was sent again."""
    return {name: wanted.stalls for name, wanted in wants.items()}


def _first(entries: Mapping[str, _T]) -> Iterator[tuple[str, _T]]:
    """The entries that fit into one exchange."""
    return itertools.islice(entries.items(), MAX_ENTRIES)


def _after(entries: Mapping[str, _T]) -> Iterator[tuple[str, _T]]:
    """The entries for later exchanges."""
    return itertools.islice(entries.items(), MAX_ENTRIES, None)
