"""What this peer has still to say to its supernode, and what it was told last. Pure: no sockets, clock or randomness.

A report leaves the session when an exchange with it is answered. Until then it stays in that exchange, which is sent
again unchanged as often as it takes. A supernode that does not know us (another boot, or it says so) gets everything.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from pantala_protocol import ranges
from pantala_protocol.images import NodeOrders, PullState, RuntimeState
from pantala_protocol.membership import Membership
from pantala_protocol.sync import Assignment, DeliveryState, Held, PieceFailure, SyncAnswer, SyncRequest, Wanted, Work

_MOST_UNDER_WAY = 2
"""One that is held, and one with news."""

_MOST_FAILURES = 1000
"""Failures kept while the supernode is away. Losing one is harmless: a piece that is given is given again."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What a process says of itself in each exchange."""

    peer: str
    boot: str
    port: int
    zone: str
    version: str
    downloads: int
    uploads: int
    """Pieces that it sends at once, at most."""


class Load(NamedTuple):
    """What a peer carries right now."""

    uploads: int
    cache_bytes: int


class Orders(NamedTuple):
    """What an answer asks for. Assignments are the full set; ``None``: unchanged."""

    assignments: tuple[Assignment, ...] | None
    work: tuple[Work, ...]
    membership: Membership | None = None
    """All supernodes there are, as far as the answer tells."""
    images: NodeOrders | None = None
    """All that the node shall do about images; ``None``: unchanged."""


class Session:
    """One process's side of its exchanges with one supernode.

    ``numbers`` are those of its exchanges. Sessions of one process share them: whichever reach the same supernode, no
    two of their exchanges are taken for one.
    """

    def __init__(self, identity: Identity, numbers: Iterator[int] | None = None) -> None:
        self.identity = identity
        self.supernode = ""
        """Boot ID of the supernode that answered last."""
        self.revision = 0
        """Of the assignments acted on."""
        self.images = 0
        """Revision of the orders about images that this supernode said last; 0: none."""
        self.key = b""
        """With which tickets are checked; empty: none is good yet."""
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
        self._unsaid: set[str] = set()
        self._wants: dict[str, Wanted] = {}
        self._pulls: dict[str, PullState] | None = None
        self._pulls_due = False
        self._runtime: RuntimeState | None = None
        self._runtime_due = False

    # What is to be reported

    def piece_done(self, task_id: str, generation: str, piece: int) -> None:
        """A piece was verified and can be served."""
        self._merge_done(task_id, generation, 1 << piece)

    def piece_failed(self, failure: PieceFailure) -> None:
        """A piece that was given could not be had."""
        self._failures = [*self._failures, failure][-_MOST_FAILURES:]

    def delivery(self, uid: str, state: DeliveryState | None, *, urgent: bool = True) -> None:
        """Say how a delivery is now; ``None``: not there. Only a change is reported.

        What is not ``urgent`` goes with the next exchange, whenever that is.
        """
        if self._states.get(uid) == state:
            return
        if state is None:
            del self._states[uid]
        else:
            self._states[uid] = state
        self._changed[uid] = None
        self._urgent = self._urgent or urgent

    def want(self, wants: dict[str, Wanted]) -> None:
        """These are all the blobs that the node waits for. How far each is goes with the next exchange."""
        self._urgent = self._urgent or _calls(wants) != _calls(self._wants)
        self._wants = wants

    def state_pulls(self, pulls: dict[str, PullState], *, urgent: bool = True) -> None:
        """This is how far all ordered images are. What is not ``urgent`` goes with the next exchange."""
        if pulls != self._pulls:
            self._pulls, self._pulls_due = dict(pulls), True
            self._urgent = self._urgent or urgent

    def state_runtime(self, runtime: RuntimeState, *, urgent: bool = True) -> None:
        """This is how the node's container runtime is. What is not ``urgent`` goes with the next exchange."""
        if runtime != self._runtime:
            self._runtime, self._runtime_due = runtime, True
            self._urgent = self._urgent or urgent

    def state_inventory(self) -> None:
        """Something that was reported as held is gone: the next exchange states all."""
        self._inventory_due = True

    # The exchanges

    @property
    def has_news(self) -> bool:
        """There is something that no exchange carries yet."""
        return bool(self._inventory_due or self._done or self._failures or self._urgent or self._unsaid)

    def is_latest(self, seq: int) -> bool:
        """No exchange was begun after ``seq``."""
        return seq == self._seq

    @property
    def idle(self) -> bool:
        """No exchange is under way."""
        return not self._under_way

    @property
    def may_begin(self) -> bool:
        """A new exchange would be right now: none is under way, or there is news and it would be the second.

        An inventory replaces what the supernode knows, so nothing newer may overtake it.
        """
        if not self._under_way:
            return True
        alone = any(request.inventory is not None for request in self._under_way.values())
        return self.has_news and not alone and len(self._under_way) < _MOST_UNDER_WAY

    def begin(self, load: Load, inventory: Callable[[], dict[str, Held]], *, leaving: bool = False) -> SyncRequest:
        """The next exchange, with all news. Send it until it was :meth:`answered`, or :meth:`abandon` it."""
        self._seq = next(self._numbers)
        whole = self._inventory_due
        held = inventory() if whole or self._unsaid else {}
        if not whole:
            self._say_held(held)
        request = SyncRequest(
            peer=self.identity.peer,
            boot=self.identity.boot,
            seq=self._seq,
            supernode=self.supernode,
            revision=self.revision,
            port=self.identity.port,
            zone=self.identity.zone,
            version=self.identity.version,
            inventory=held if whole else None,
            done={name: Held(held[0], ranges.render(held[1])) for name, held in self._done.items()},
            failures=tuple(self._failures),
            deliveries=dict(self._states) if whole else {uid: self._states.get(uid) for uid in self._changed},
            wants=self._wants,
            images=self.images,
            pulls=self._pulls if self._pulls_due or whole else None,
            runtime=self._runtime if self._runtime_due or whole else None,
            uploads=load.uploads,
            cache_bytes=load.cache_bytes,
            downloads=self.identity.downloads,
            upload_slots=self.identity.uploads,
            leaving=leaving,
        )
        self._inventory_due = self._urgent = self._pulls_due = self._runtime_due = False
        self._done, self._failures, self._changed = {}, [], {}
        self._unsaid.clear()
        self._under_way[request.seq] = request
        return request

    def answered(self, seq: int, answer: SyncAnswer) -> Orders:
        """Take the answer to exchange ``seq``. Answers may come in any order; an outdated one changes nothing."""
        request = self._under_way.pop(seq, None)
        if request is None:
            return Orders(None, ())
        newest = seq > self._latest
        if answer.supernode != self.supernode:
            if not newest:
                self.state_inventory()  # its reports reached a supernode that is gone
                return Orders(None, ())
            self._meet(answer.supernode, request)
        if answer.inventory_wanted:
            self.revision = self.images = 0
            self._inventory_due = True
        if newest:
            self._latest = seq
            self.key = bytes.fromhex(answer.key) if answer.key else self.key
        images = self._accept_images(answer, newest=newest)
        return Orders(self._accept(answer, newest=newest), answer.work, answer.membership, images)

    def abandon(self, seq: int) -> None:
        """The supernode will not take exchange ``seq``: its reports go into the next one, beside the inventory."""
        request = self._under_way.pop(seq)
        self._inventory_due = True
        self._failures = [*request.failures, *self._failures][-_MOST_FAILURES:]
        self._changed = dict.fromkeys(request.deliveries) | self._changed

    def _accept_images(self, answer: SyncAnswer, *, newest: bool) -> NodeOrders | None:
        """The answer's orders about images, if they are newer than what this supernode said before."""
        said = answer.images
        if said is None or said.revision == self.images or (said.revision < self.images and not newest):
            return None
        self.images = said.revision
        return said

    def _accept(self, answer: SyncAnswer, *, newest: bool) -> tuple[Assignment, ...] | None:
        """The answer's assignments, if they are newer than what is acted on."""
        if answer.assignments is None:
            return None
        if answer.revision <= self.revision:
            if newest and answer.revision < self.revision:
                self.revision = 0  # a repeated answer, or a count that began anew: the next answer says all again
            return None
        self.revision = answer.revision
        self._restate(answer.assignments)
        return answer.assignments

    def _restate(self, assignments: tuple[Assignment, ...]) -> None:
        """Say of what the supernode begins to name how it is: it kept nothing of what it did not know by then.

        Of the inventory, too, something may have become old since it was taken.
        """
        named = {delivery.uid for assignment in assignments for delivery in assignment.deliveries}
        for uid in sorted(named - self._named):
            if uid in self._states:
                self._changed[uid] = None
                self._urgent = True
        self._named = named
        tasks = frozenset(assignment.task_id for assignment in assignments)
        self._unsaid |= tasks - self._tasks
        self._tasks = tasks

    def _say_held(self, held: dict[str, Held]) -> None:
        for name in self._unsaid & held.keys():
            self._done[name] = (held[name].generation, ranges.parse(held[name].pieces))

    def _meet(self, supernode: str, request: SyncRequest) -> None:
        self.supernode = supernode
        self.revision = self.images = 0
        self._named, self._tasks = set(), frozenset()
        if request.inventory is None:
            self._inventory_due = True

    def _merge_done(self, task_id: str, generation: str, pieces: int) -> None:
        known, mask = self._done.get(task_id, (generation, 0))
        self._done[task_id] = (generation, pieces | mask if known == generation else pieces)


def _calls(wants: dict[str, Wanted]) -> dict[str, int]:
    """What is wanted, and how often it was asked for."""
    return {name: wanted.stalls for name, wanted in wants.items()}
