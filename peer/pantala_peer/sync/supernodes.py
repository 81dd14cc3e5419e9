"""The supernodes: a conversation with each of them, and one word of all.

It begins with one address. Whoever answers there tells who the members are, and each of them gets a conversation of its
own; what they assign is joined (:mod:`pantala_peer.sync.claims`), and reports go to those whom they concern.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import structlog

from pantala_peer.sync.claims import Claims, is_sane
from pantala_peer.sync.exchange import Exchange
from pantala_peer.sync.ports import Connection, ImageOrders, Orders
from pantala_peer.sync.session import Identity, Load, Session
from pantala_peer.sync.session import Orders as Said
from pantala_protocol.images import NodeOrders, PullState, RuntimeState
from pantala_protocol.membership import Membership
from pantala_protocol.redaction import RedactedURL
from pantala_protocol.sync import Assignment, DeliveryState, Held, PieceFailure, Wanted

_FIRST = ""
"""The name under which the supernode at the given address speaks; no member has it."""

_ASK_AGAIN_AFTER = 30.0
"""Seconds without an answer of any member after which the given address is asked beside them: longer than a supernode
takes to start anew."""

_LOOK = 1.0
"""Seconds between two looks at whether anybody answers."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Present:
    """What the exchanges tell of the peer as it is now."""

    load: Callable[[], Load]
    inventory: Callable[[], dict[str, Held]]
    busy: Callable[[], bool]
    """No more work can be begun."""


@dataclass(frozen=True, slots=True, eq=False)
class _Lane:
    name: str
    url: str
    session: Session
    connection: Connection
    exchange: Exchange


class Supernodes:
    """Keeps the conversations going; takes the :class:`pantala_peer.sync.reports.Reports` for all of them.

    ``connect`` makes the connection to a base URL.
    """

    def __init__(
        self,
        url: str,
        identity: Identity,
        present: Present,
        *,
        connect: Callable[[str], Connection],
        rng: random.Random,
    ) -> None:
        self.identity = identity
        """Said in every exchange."""
        self.orders: Orders
        """Set by who composes."""
        self.image_orders: ImageOrders
        """Set by who composes."""
        self._url = url
        self._present = present
        self._connect = connect
        self._rng = rng
        self._numbers = itertools.count(1)
        self._claims = Claims()
        self._lanes: dict[str, _Lane] = {}
        self._states: dict[str, DeliveryState] = {}
        self._wants: dict[str, Wanted] = {}
        self._pulls: dict[str, PullState] | None = None
        self._runtime: RuntimeState | None = None
        self._images: dict[str, NodeOrders] = {}
        self._in_force: NodeOrders | None = None
        self._group: asyncio.TaskGroup
        self._met_at = float("-inf")

    @property
    def answered_at(self) -> float:
        """When an answer came last, by the loop's clock."""
        return max((lane.exchange.answered_at for lane in self._lanes.values()), default=float("-inf"))

    @property
    def error(self) -> str:
        """Why they do not answer; empty: all do."""
        return "; ".join(lane.exchange.error for lane in self._lanes.values() if lane.exchange.error)

    def answering(self, task_id: str) -> str | None:
        """Base URL of the supernode that a task belongs to, if its last exchange was answered."""
        lane = self._lanes.get(self._owner(task_id))
        return lane.url if lane is not None and not lane.exchange.error else None

    def keys(self) -> list[bytes]:
        """With which tickets are checked, one of each supernode."""
        return [lane.session.key for lane in self._lanes.values() if lane.session.key]

    async def run(self) -> None:
        """Converse until cancelled."""
        async with asyncio.TaskGroup() as self._group:
            self._begin(_FIRST, self._url)
            self._spread()
            while True:
                await asyncio.sleep(_LOOK)
                self._look_for_anybody()

    async def leave(self) -> None:
        """Say to all, once :meth:`run` was cancelled, that this process goes."""
        await asyncio.gather(*(_take_leave(lane) for lane in self._lanes.values()))

    # The reports

    def piece_done(self, task_id: str, generation: str, piece: int) -> None:
        """A piece was verified and can be served."""
        for lane in self._assigning(task_id):
            lane.session.piece_done(task_id, generation, piece)

    def piece_failed(self, failure: PieceFailure, giver: str) -> None:
        """A piece that the supernode of boot ID ``giver`` gave could not be had."""
        for lane in self._lanes.values():
            if lane.session.supernode == giver:
                lane.session.piece_failed(failure)

    def delivery(self, task_id: str, uid: str, state: DeliveryState | None) -> None:
        """How a delivery of a task is now; ``None``: not there."""
        if state is None:
            self._states.pop(uid, None)
        else:
            self._states[uid] = state
        concerned = self._claims.of(task_id) or self._lanes.keys()
        for lane in self._lanes.values():
            lane.session.delivery(uid, state, urgent=lane.name in concerned)

    def want(self, task_id: str, wanted: Wanted | None) -> None:
        """What the node waits for of a blob's task, at once; ``None``: nothing any more."""
        if wanted is None:
            self._wants.pop(task_id, None)
        else:
            self._wants[task_id] = wanted
        self._spread()

    def state_pulls(self, pulls: dict[str, PullState], *, urgent: bool) -> None:
        """How far all ordered images are; what is not ``urgent`` waits for an exchange with other news."""
        self._pulls = dict(pulls)
        for lane in self._lanes.values():
            lane.session.state_pulls(self._pulls, urgent=urgent)
        self.send()

    def state_runtime(self, runtime: RuntimeState, *, urgent: bool) -> None:
        """How the node's container runtime is."""
        self._runtime = runtime
        for lane in self._lanes.values():
            lane.session.state_runtime(runtime, urgent=urgent)
        self.send()

    def state_inventory(self, task_id: str) -> None:
        """Less is held of a task than was said."""
        for lane in self._assigning(task_id):
            lane.session.state_inventory()

    def send(self) -> None:
        """Tell what is not told yet."""
        for lane in self._lanes.values():
            if lane.session.has_news:
                lane.exchange.wake()

    def _spread(self) -> None:
        """Let each supernode know what is wanted of its own tasks."""
        for name, lane in self._lanes.items():
            lane.session.want({task: wanted for task, wanted in self._wants.items() if self._owner(task) == name})
        self.send()

    def _owner(self, task_id: str) -> str:
        """In whose conversation a task is asked for."""
        owner = self._claims.membership.owner(task_id) if self._claims.membership else None
        return owner.name if owner is not None and owner.name in self._lanes else _FIRST

    def _assigning(self, task_id: str) -> list[_Lane]:
        return [self._lanes[name] for name in self._claims.of(task_id) if name in self._lanes]

    # The conversations

    def _begin(self, name: str, url: str) -> None:
        session = Session(self.identity, self._numbers)
        for uid, state in self._states.items():
            session.delivery(uid, state)
        if self._pulls is not None:
            session.state_pulls(self._pulls)
        if self._runtime is not None:
            session.state_runtime(self._runtime)
        connection = self._connect(url)
        exchange = Exchange(
            session,
            connection,
            load=self._present.load,
            inventory=self._present.inventory,
            busy=self._present.busy,
            obey=lambda said: self._obey(lane, said),
            rng=self._rng,
        )
        lane = self._lanes[name] = _Lane(name, url, session, connection, exchange)
        self._group.create_task(_converse(lane))

    def _end(self, name: str) -> None:
        """No goodbye: the supernode may hear us through another conversation."""
        self._lanes.pop(name).exchange.retire()
        self._images.pop(name, None)  # what is in force stays so until somebody says other things

    def _obey(self, lane: _Lane, said: Said) -> None:
        if self._lanes.get(lane.name) is lane:
            self._hear(lane, said)
        for work in said.work:
            self.orders.give(work, lane.session.supernode)
        self._end_first()

    def _hear(self, lane: _Lane, said: Said) -> None:
        if said.membership is not None and self._claims.join(said.membership):
            self._meet(said.membership)
        if said.assignments is not None and self._lanes.get(lane.name) is lane:
            revision = said.membership.revision if said.membership else 0
            self._claims.say(lane.name, _sane(said.assignments), revision=revision)
            self._assign()
        if said.images is not None and self._lanes.get(lane.name) is lane:
            self._images[lane.name] = said.images
            self._order()

    def _order(self) -> None:
        """Of what they say about images the operator's last word holds, whoever relays it."""
        newest = max(self._images.values(), key=lambda orders: orders.revision)
        if newest != self._in_force:
            self._in_force = newest
            self.image_orders.obey(newest)

    def _assign(self) -> None:
        self.orders.assign(self._claims.assigned(), complete=self._claims.complete)

    def _meet(self, membership: Membership) -> None:
        """Have one conversation with each member, and none with others but the first."""
        log.info("the supernodes", revision=membership.revision, members=[member.name for member in membership.members])
        self._met_at = asyncio.get_running_loop().time()
        urls = {member.name: member.url for member in membership.members}
        for name, lane in list(self._lanes.items()):
            if name != _FIRST and urls.get(name) != lane.url:
                self._end(name)
        for name in self._claims.supernodes - urls.keys() - {_FIRST}:
            self._claims.forget(name)
        for name in urls.keys() - self._lanes.keys():
            self._begin(name, urls[name])
        self._spread()
        self._assign()

    def _end_first(self) -> None:
        """End the first conversation when the members' own do its part: its supernode's, or all of them."""
        first = self._lanes.get(_FIRST)
        if first is None or self._claims.membership is None:
            return
        members = [lane for lane in self._lanes.values() if lane is not first]
        heard = [lane for lane in members if not lane.exchange.error and lane.name in self._claims.supernodes]
        if heard == members or first.session.supernode in {lane.session.supernode for lane in heard}:
            self._end(_FIRST)
            self._claims.forget(_FIRST)
            self._assign()

    def _look_for_anybody(self) -> None:
        if _FIRST not in self._lanes:
            since = max(self.answered_at, self._met_at)
            if asyncio.get_running_loop().time() - since > _ASK_AGAIN_AFTER:
                log.warning("no supernode answers; asking at the first address again", url=str(RedactedURL(self._url)))
                self._begin(_FIRST, self._url)


async def _converse(lane: _Lane) -> None:
    async with lane.connection:
        await lane.exchange.run()


async def _take_leave(lane: _Lane) -> None:
    async with lane.connection:
        await lane.exchange.leave()


def _sane(assignments: Iterable[Assignment]) -> Iterator[Assignment]:
    for assignment in assignments:
        if is_sane(assignment):
            yield assignment
        else:
            log.warning("an assignment that cannot be worked with was left out", task=assignment.task_id[:64])
