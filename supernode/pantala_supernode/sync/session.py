"""A peer's exchanges with the supernode: what each side sent last, and the exchanges that are held open."""

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

from pantala_protocol.images import NodeOrders
from pantala_protocol.statement import Membership
from pantala_protocol.sync import Assignment, PieceWork, SyncAnswer, WantedBlob
from pantala_supernode.swarm.pool import Pool

_REMEMBERED = 4
"""Answers kept for repetition. A peer has at most two exchanges under way."""


@dataclass(slots=True)
class PeerSession:
    """All that is known of one process of a peer, but for its progress. Times are in monotonic seconds."""

    peer: str
    boot: str
    reader: str = ""
    """Its mark in tickets for the supernode. So the supernode knows which of its pieces it fetches."""
    path: str | None = None
    """Where a Dragonfly client serves its wrapped pieces; ``None``: it is a peer of ours."""
    holdings: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Generation and pieces by task, as it reported. A task may become known later."""
    last_sent: tuple[Assignment, ...] | None = None
    """The assignments in force; ``None``: before the first statement, the peer keeps what it has."""
    membership: Membership | None = None
    """The supernodes that were sent with ``last_sent``."""
    revision: int = 0
    """Of ``last_sent`` and ``membership``."""
    images: NodeOrders | None = None
    """The orders about images that were sent last."""
    seq: int = -1
    """The greatest one received."""
    wants: Mapping[str, WantedBlob] = field(default_factory=dict)
    """The blobs that the runtime of its node waits for now, by task."""
    inventoried: bool = False
    """It has sent its whole inventory to this process."""
    open_tasks: dict[str, None] = field(default_factory=dict)
    """Tasks of which it lacks pieces, the most important first."""
    paused: dict[str, float] = field(default_factory=dict)
    """Tasks that failed on its own disk, and until when it gets no piece of them."""
    under_way: int = 0
    """Exchanges without an answer yet."""
    last_alive: float = 0.0
    """When its last exchange ended."""
    last_moved: float = 0.0
    """When it was last given a piece, or reported one."""
    answers: OrderedDict[int, SyncAnswer] = field(default_factory=OrderedDict)

    def remember(self, answer: SyncAnswer) -> SyncAnswer:
        """Keep an answer, in case it is lost and the peer repeats its request."""
        self.answers[answer.seq] = answer
        self.images = answer.images or self.images
        while len(self.answers) > _REMEMBERED:
            self.answers.popitem(last=False)
        return answer


Hold = asyncio.Future[tuple[PieceWork, ...]]

_EMPTY = Pool()


class SupersededError(Exception):
    """A newer exchange of the same peer ends the held one."""


class HeldExchanges:
    """The exchanges that wait for work, by peer and task."""

    def __init__(self) -> None:
        self._held: dict[str, Hold] = {}
        self._tasks_of: dict[str, tuple[str, ...]] = {}
        self._by_task: dict[str, Pool] = {}

    def enter(self, session: PeerSession) -> Hold:
        """Hold a peer's exchange until there is work for it, or other news."""
        held = self._held[session.peer] = asyncio.get_running_loop().create_future()
        self._tasks_of[session.peer] = tuple(session.open_tasks)
        for task_id in session.open_tasks:
            self._by_task.setdefault(task_id, Pool()).add(session.peer)
        return held

    def leave(self, peer: str, held: Hold | None = None) -> Hold | None:
        """Stop holding a peer's exchange, and return what it waited on. ``held``: only if it is this one."""
        if held is not None and self._held.get(peer) is not held:
            return None
        for task_id in self._tasks_of.pop(peer, ()):
            waiting = self._by_task[task_id]
            waiting.discard(peer)
            if not waiting:
                del self._by_task[task_id]
        return self._held.pop(peer, None)

    def release(self, peer: str, work: tuple[PieceWork, ...] = ()) -> None:
        """Answer a peer's held exchange, if there is one, with ``work``."""
        held = self.leave(peer)
        if held is not None and not held.done():
            held.set_result(work)

    def supersede(self, peer: str) -> None:
        held = self.leave(peer)
        if held is not None and not held.done():
            held.set_exception(SupersededError())

    def release_all(self) -> None:
        for peer in list(self._held):
            self.release(peer)

    def waiting(self, task_id: str) -> Pool:
        """The peers that wait for pieces of a task. Some may not :meth:`listen <listens>` any more."""
        return self._by_task.get(task_id, _EMPTY)

    def listens(self, peer: str) -> bool:
        held = self._held.get(peer)
        return held is not None and not held.done()

    def __len__(self) -> int:
        return len(self._held)

    def tasks(self) -> list[str]:
        return list(self._by_task)
