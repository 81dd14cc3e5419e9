"""Whose exchange is held, by the tasks it waits for."""

from __future__ import annotations

import asyncio

from pantala_protocol.sync import Work
from pantala_supernode.swarm.pool import Pool
from pantala_supernode.sync.session import Session

Held = asyncio.Future[tuple[Work, ...]]

_NOBODY = Pool()


class SupersededError(Exception):
    """A newer exchange of the same peer took over from the held one."""


class WaitingRoom:
    """Peers that wait for work. Entering and leaving are one step each, so nobody is served who cannot be answered."""

    def __init__(self) -> None:
        self._held: dict[str, Held] = {}
        self._tasks_of: dict[str, tuple[str, ...]] = {}
        self._by_task: dict[str, Pool] = {}

    def enter(self, session: Session) -> Held:
        """Hold a peer's exchange: it waits for pieces of its open tasks, and for anything else there is to say."""
        held = self._held[session.peer] = asyncio.get_running_loop().create_future()
        self._tasks_of[session.peer] = tuple(session.open_tasks)
        for task_id in session.open_tasks:
            self._by_task.setdefault(task_id, Pool()).add(session.peer)
        return held

    def leave(self, peer: str, held: Held | None = None) -> Held | None:
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
