"""One peer's conversation with the supernode: its boot, its exchanges, what it holds and what it was told."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

from pantala_protocol.images import NodeOrders
from pantala_protocol.membership import Membership
from pantala_protocol.sync import Assignment, SyncAnswer, Wanted, Work
from pantala_supernode.swarm.pool import Pool

_REMEMBERED = 4
"""Answers kept for repetition; a peer has at most two exchanges under way."""


@dataclass(slots=True)
class PeerSession:
    """Everything about one process of a peer but its progress."""

    peer: str
    boot: str
    path: str | None = None
    """Where a Dragonfly client serves its wrapped pieces, word for word; ``None``: it is a peer of ours."""
    holdings: dict[str, tuple[str, int]] = field(default_factory=dict)
    """What it says to hold: task -> (generation, pieces). Kept, since the task may become known later."""
    told: tuple[Assignment, ...] | None = None
    """The assignments in force; ``None``: no statement yet, it keeps what it has."""
    membership: Membership | None = None
    """What it was told of the supernodes, beside ``told``."""
    revision: int = 0
    """Of both."""
    images: NodeOrders | None = None
    """What it was told last to do about images."""
    seq: int = -1
    """The greatest that came."""
    wants: Mapping[str, Wanted] = field(default_factory=dict)
    """The blobs that its node's runtime waits for now, by task."""
    inventoried: bool = False
    """It told its whole inventory since this supernode started."""
    open_tasks: dict[str, None] = field(default_factory=dict)
    """Tasks it still lacks pieces of, those that matter most first."""
    paused: dict[str, float] = field(default_factory=dict)
    """Tasks that its own disk failed, until when it gets no piece of them; monotonic seconds."""
    under_way: int = 0
    """Exchanges that are not answered."""
    quiet_since: float = 0.0
    """When the last exchange ended; monotonic seconds."""
    moved_at: float = 0.0
    """When it was last given a piece or reported one; monotonic seconds."""
    answers: OrderedDict[int, SyncAnswer] = field(default_factory=OrderedDict)

    def remember(self, answer: SyncAnswer) -> SyncAnswer:
        """Keep an answer, in case it is lost on the way and asked for again."""
        self.answers[answer.seq] = answer
        self.images = answer.images or self.images
        while len(self.answers) > _REMEMBERED:
            self.answers.popitem(last=False)
        return answer


Hold = asyncio.Future[tuple[Work, ...]]

_NOBODY = Pool()


class SupersededError(Exception):
    """A newer exchange of the same peer took over from the held one."""


class HeldExchanges:
    """Peers that wait for work. Entering and leaving are one step each, so nobody is served who cannot be answered."""

    def __init__(self) -> None:
        self._held: dict[str, Hold] = {}
        self._tasks_of: dict[str, tuple[str, ...]] = {}
        self._by_task: dict[str, Pool] = {}

    def enter(self, session: PeerSession) -> Hold:
        """Hold a peer's exchange: it waits for pieces of its open tasks, and for anything else there is to say."""
        held = self._held[session.peer] = asyncio.get_running_loop().create_future()
        self._tasks_of[session.peer] = tuple(session.open_tasks)
        for task_id in session.open_tasks:
            self._by_task.setdefault(task_id, Pool()).add(session.peer)
        return held

    def leave(self, peer: str, held: Hold | None = None) -> Hold | None:
        """Take a peer out; only if ``held`` is what it waits on, if that is given. Returns what it waited on."""
        if held is not None and self._held.get(peer) is not held:
            return None
        for task_id in self._tasks_of.pop(peer, ()):
            waiting = self._by_task[task_id]
            waiting.discard(peer)
            if not waiting:
                del self._by_task[task_id]
        return self._held.pop(peer, None)

    def release(self, peer: str, work: tuple[Work, ...] = ()) -> None:
        """Let a peer's exchange be answered, with ``work``, if it is held."""
        held = self.leave(peer)
        if held is not None and not held.done():
            held.set_result(work)

    def supersede(self, peer: str) -> None:
        """Let a peer's held exchange be answered with nothing, if there is one."""
        held = self.leave(peer)
        if held is not None and not held.done():
            held.set_exception(SupersededError())

    def release_all(self) -> None:
        """Answer everybody."""
        for peer in list(self._held):
            self.release(peer)

    def waiting(self, task_id: str) -> Pool:
        """The peers that wait for pieces of a task; of those, ask who :meth:`listens`."""
        return self._by_task.get(task_id, _NOBODY)

    def listens(self, peer: str) -> bool:
        """Whether a peer waits and can still be answered."""
        held = self._held.get(peer)
        return held is not None and not held.done()

    def __len__(self) -> int:
        return len(self._held)

    def tasks(self) -> list[str]:
        """The tasks that somebody waits for."""
        return list(self._by_task)
