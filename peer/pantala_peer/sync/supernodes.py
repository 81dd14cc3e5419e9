"""The sessions with all supernodes, and the merged set of their assignments.

The peer begins with one configured address. The supernode there sends the membership, and the peer opens a session
with each member. :mod:`pantala_peer.sync.assignment_set` merges their assignments. Reports about a task's pieces are
sent only to the replicas that assign the task.
"""

import asyncio
import itertools
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import structlog

from pantala_peer.events import Assigned, ImagesOrdered, PeerEvents, WorkGiven
from pantala_peer.sync.assignment_set import AssignmentSet, is_valid
from pantala_peer.sync.client import SyncClient
from pantala_peer.sync.connection import SyncConnection
from pantala_peer.sync.pace import MOST_OFTEN, PieceWindow
from pantala_peer.sync.session import NodeState, SupernodeSession
from pantala_protocol.images import NodeOrders, PullState, RuntimeState
from pantala_protocol.redaction import RedactedURL
from pantala_protocol.statement import Membership
from pantala_protocol.sync import Assignment, DeliveryState, PieceFailure, SyncAnswer, SyncRequest, WantedBlob

_FIRST = ""
"""The name of the session with the configured address. It is not the name of any member."""

_ASK_AGAIN_AFTER = 30.0
"""Seconds without any member's answer until the peer uses the configured address again. A restart takes less time."""

_LOOK = 1.0
"""Seconds between two checks whether any member answers."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, eq=False)
class _Link:
    name: str
    url: str
    session: SupernodeSession
    client: SyncClient


class SupernodeSessions:
    """Runs all sessions, emits the supernodes' answers as events, and sends reports. ``connect`` takes a base URL."""

    def __init__(
        self,
        url: str,
        identity: SyncRequest,
        events: PeerEvents,
        *,
        connect: Callable[[str], SyncConnection],
        rng: random.Random,
    ) -> None:
        self._url = url
        self._identity = identity
        self._events = events
        self._connect = connect
        self._rng = rng
        self._window = PieceWindow(identity.downloads)
        self._node: NodeState
        self._group: asyncio.TaskGroup
        self._numbers = itertools.count(1)
        self._assignments = AssignmentSet()
        self._links: dict[str, _Link] = {}
        self._states: dict[str, DeliveryState] = {}
        self._wants: dict[str, WantedBlob] = {}
        self._pulls: dict[str, PullState] | None = None
        self._runtime: RuntimeState | None = None
        self._images: dict[str, NodeOrders] = {}
        self._in_force: NodeOrders | None = None
        self._membership_at = float("-inf")
        self._ended_exchanges = 0

    @property
    def answered_at(self) -> float:
        """The event loop's time of the last answer from any supernode."""
        return max((link.client.answered_at for link in self._links.values()), default=float("-inf"))

    @property
    def sessions(self) -> int:
        """The number of supernodes with which the peer has a session."""
        return len(self._links)

    @property
    def errors(self) -> list[str]:
        """Why supernodes do not answer: one text for each silent supernode."""
        return [link.client.error for link in self._links.values() if link.client.error is not None]

    @property
    def exchanges(self) -> int:
        """How many exchanges have begun, with all supernodes together."""
        return self._ended_exchanges + sum(link.client.exchanges for link in self._links.values())

    def answering(self, task_id: str) -> str | None:
        """Base URL of the replica that owns a task, if it answered the last exchange."""
        link = self._links.get(self._owner(task_id))
        return link.url if link is not None and link.client.error is None else None

    def window(self) -> int:
        """How many assigned pieces the node can use at once."""
        interval = max((link.client.interval for link in self._links.values()), default=MOST_OFTEN)
        return self._window.size(asyncio.get_running_loop().time(), interval)

    def keys(self) -> list[bytes]:
        """The keys that verify tickets, one for each supernode. Other threads may call this."""
        return [link.session.key for link in list(self._links.values()) if link.session.key]

    async def run(self, node: NodeState) -> None:
        """Exchange with all supernodes until cancelled."""
        self._node = node
        async with asyncio.TaskGroup() as self._group:
            self._begin(_FIRST, self._url)
            self._spread_wants()
            while True:
                await asyncio.sleep(_LOOK)
                self._ask_again()

    async def leave(self) -> None:
        """After :meth:`run` was cancelled: report to all supernodes that this process ends."""
        await asyncio.gather(*(link.client.leave() for link in self._links.values()))

    # Reports

    def piece_done(self, task_id: str, generation: str, piece: int) -> None:
        """Report a verified piece."""
        self._window.note(asyncio.get_running_loop().time())
        for link in self._assigning(task_id):
            link.session.piece_done(task_id, generation, piece)

    def piece_failed(self, failure: PieceFailure, supernode: str) -> None:
        """Report a failed download to the supernode with this boot ID, which gave the work."""
        for link in self._links.values():
            if link.session.supernode == supernode:
                link.session.piece_failed(failure)

    def delivery(self, task_id: str, uid: str, state: DeliveryState | None) -> None:
        """Report the state of a delivery. ``None``: not published."""
        if state is None:
            self._states.pop(uid, None)
        else:
            self._states[uid] = state
        concerned = self._assignments.owners(task_id) or self._links.keys()
        for link in self._links.values():
            link.session.delivery(uid, state, urgent=link.name in concerned)

    def want(self, task_id: str, wanted: WantedBlob | None) -> None:
        """Report which byte of a blob the node needs next. ``None``: the node no longer waits for the blob."""
        if wanted is None:
            self._wants.pop(task_id, None)
        else:
            self._wants[task_id] = wanted
        self._spread_wants()

    def report_pulls(self, pulls: dict[str, PullState], *, urgent: bool) -> None:
        """Report the state of all ordered images. If not ``urgent``, the report waits for the next exchange."""
        self._pulls = dict(pulls)
        for link in self._links.values():
            link.session.report_pulls(self._pulls, urgent=urgent)
        self.send()

    def report_runtime(self, runtime: RuntimeState, *, urgent: bool) -> None:
        """Report the state of the node's container runtime. If not ``urgent``, it waits for the next exchange."""
        self._runtime = runtime
        for link in self._links.values():
            link.session.report_runtime(runtime, urgent=urgent)
        self.send()

    def inventory_changed(self, task_id: str) -> None:
        """Report all pieces again, because reported pieces of this task are lost."""
        for link in self._assigning(task_id):
            link.session.inventory_changed()

    def send(self, *, at_once: bool = False) -> None:
        """Send the waiting reports. Unless ``at_once``, simultaneous reports share an exchange."""
        for link in self._links.values():
            if link.session.has_news:
                link.client.wake(at_once=at_once)

    def _spread_wants(self) -> None:
        """Report each wanted blob to the supernode that owns its task."""
        for name, link in self._links.items():
            link.session.want({task: wanted for task, wanted in self._wants.items() if self._owner(task) == name})
        self.send()

    def _owner(self, task_id: str) -> str:
        membership = self._assignments.membership
        owner = membership.owner(task_id) if membership else None
        return owner.name if owner is not None and owner.name in self._links else _FIRST

    def _assigning(self, task_id: str) -> list[_Link]:
        return [self._links[name] for name in self._assignments.owners(task_id) if name in self._links]

    # Sessions

    def _begin(self, name: str, url: str) -> None:
        session = SupernodeSession(self._identity, self._numbers)
        for uid, state in self._states.items():
            session.delivery(uid, state)
        if self._pulls is not None:
            session.report_pulls(self._pulls)
        if self._runtime is not None:
            session.report_runtime(self._runtime)
        client = SyncClient(
            session, self._connect(url), self._node, apply=lambda answer: self._apply(link, answer), rng=self._rng
        )
        link = self._links[name] = _Link(name, url, session, client)
        self._group.create_task(client.run())

    def _end(self, name: str) -> None:
        """End a session without a last report, because the supernode may have another session with this peer."""
        link = self._links.pop(name)
        link.client.retire()
        self._ended_exchanges += link.client.exchanges
        self._images.pop(name, None)  # the orders in force stay until a supernode sends newer ones

    def _apply(self, link: _Link, answer: SyncAnswer) -> None:
        if answer.membership is not None and self._is_open(link) and self._assignments.join(answer.membership):
            self._on_membership(answer.membership)
        if answer.assignments is not None and self._is_open(link):
            revision = answer.membership.revision if answer.membership else 0
            self._assignments.update(link.name, _valid(answer.assignments), revision=revision)
            self._emit_assigned()
        if answer.images is not None and self._is_open(link):
            self._images[link.name] = answer.images
            self._emit_images()
        for work in answer.work:
            self._events.emit(WorkGiven(work, link.session.supernode))
        self._end_first()

    def _is_open(self, link: _Link) -> bool:
        return self._links.get(link.name) is link

    def _emit_images(self) -> None:
        """Emit the newest orders of all replicas."""
        newest = max(self._images.values(), key=lambda orders: orders.revision)
        if newest != self._in_force:
            self._in_force = newest
            self._events.emit(ImagesOrdered(newest))

    def _emit_assigned(self) -> None:
        self._events.emit(Assigned(self._assignments.joined(), self._assignments.complete))

    def _on_membership(self, membership: Membership) -> None:
        """Open a session with each new replica, and end the sessions with removed replicas. The first session stays."""
        log.info("new membership", revision=membership.revision, members=[member.name for member in membership.members])
        self._membership_at = asyncio.get_running_loop().time()
        urls = {member.name: member.url for member in membership.members}
        for name, link in list(self._links.items()):
            if name != _FIRST and urls.get(name) != link.url:
                self._end(name)
        for name in self._assignments.supernodes - urls.keys() - {_FIRST}:
            self._assignments.remove(name)
        for name in urls.keys() - self._links.keys():
            self._begin(name, urls[name])
        self._spread_wants()
        self._emit_assigned()

    def _end_first(self) -> None:
        """End the first session when its supernode, or each member, has answered in the member's own session."""
        first = self._links.get(_FIRST)
        if first is None or self._assignments.membership is None:
            return
        members = [link for link in self._links.values() if link is not first]
        working = [link for link in members if link.client.error is None and link.name in self._assignments.supernodes]
        if working == members or first.session.supernode in {link.session.supernode for link in working}:
            self._end(_FIRST)
            self._assignments.remove(_FIRST)
            self._emit_assigned()

    def _ask_again(self) -> None:
        """Open a session with the configured address again if no member answers."""
        if _FIRST not in self._links:
            since = max(self.answered_at, self._membership_at)
            if asyncio.get_running_loop().time() - since > _ASK_AGAIN_AFTER:
                log.warning("no supernode answers; trying the configured URL again", url=str(RedactedURL(self._url)))
                self._begin(_FIRST, self._url)


def _valid(assignments: Iterable[Assignment]) -> Iterator[Assignment]:
    for assignment in assignments:
        if is_valid(assignment):
            yield assignment
        else:
            log.warning("ignored an assignment that is not valid", task=assignment.task_id[:64])
