"""The copies by task, and their removal from the volume."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from pantala_pieces.file import PieceFile
from pantala_pieces.store import PieceStore
from pantala_protocol.task_id import TaskID
from pantala_supernode.cdn.copy_state import CopyState
from pantala_supernode.cdn.disk import SerialExecutor
from pantala_supernode.errors import VolumeFailedError
from pantala_supernode.tasks.copy import CopyPhase


class CopyTable:
    """All copies of one supernode.

    ``on_change`` receives a task's ID on the event loop whenever its :class:`Copy` changed. It must not block.
    """

    def __init__(self, store: PieceStore, on_change: Callable[[TaskID], None]) -> None:
        self.store = store
        self.on_change = on_change
        self.closed = False
        """True after :meth:`close`: no new job starts."""
        self._threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="cdn")
        self._copies: dict[TaskID, CopyState] = {}
        self._deletions: dict[TaskID, asyncio.Task[None]] = {}

    async def load(self) -> list[PieceFile]:
        """Open the volume, and return its files. Raises :class:`VolumeFailedError`."""
        return list(await SerialExecutor(self._threads).run(self.store.open))

    def get(self, task_id: TaskID) -> CopyState | None:
        return self._copies.get(task_id)

    def ensure(self, task_id: TaskID) -> CopyState:
        if task_id not in self._copies:
            self._copies[task_id] = CopyState(task_id, SerialExecutor(self._threads))
        return self._copies[task_id]

    def __iter__(self) -> Iterator[CopyState]:
        return iter(list(self._copies.values()))

    def released(self, task_id: TaskID) -> bool:
        """True if a task has wanted the copy since the start, and no task wants it any more."""
        copy = self._copies.get(task_id)
        return copy is not None and copy.phase is CopyPhase.RELEASED

    def tidy(self) -> None:
        """Forget the released copies that have neither a file nor a job."""
        for copy in self:
            idle = copy.job is None or copy.job.done()
            if copy.phase is CopyPhase.RELEASED and idle and self.store.get(copy.task_id) is None:
                del self._copies[copy.task_id]

    def blockers(self, copy: CopyState) -> list[asyncio.Task[None]]:
        """The jobs that still use the copy's files."""
        return [task for task in (copy.job, self._deletions.get(copy.task_id)) if task is not None]

    async def delete(self, task_id: TaskID) -> None:
        """Stop reading, and remove all files of a task from the volume.

        Raises :class:`pantala_supernode.errors.VolumeFailedError`. The caller may try again.
        """
        if self.closed:
            raise VolumeFailedError(
                f"The copy of task {task_id} stays while the supernode stops. The next start deletes it."
            )
        copy = self._copies.pop(task_id, None)
        if copy is not None:
            copy.become(CopyPhase.REMOVED)
        former = self._deletions.get(task_id)
        if former is None or copy is not None:
            former = asyncio.get_running_loop().create_task(self._remove(task_id, copy, former))
            self._deletions[task_id] = former
        await asyncio.shield(former)

    async def close(self) -> None:
        """Stop all jobs. Durable pieces stay on the volume."""
        self.closed = True
        jobs = [copy.job for copy in self if copy.job is not None]
        for copy in self:
            copy.stop()
        await asyncio.gather(*jobs, *self._deletions.values(), return_exceptions=True)
        self._threads.shutdown(wait=False)
        self.store.close()

    async def _remove(self, task_id: TaskID, copy: CopyState | None, former: asyncio.Task[None] | None) -> None:
        try:
            if former is not None:
                await asyncio.wait({former})
            if copy is not None and copy.job is not None:
                copy.stop()
                await asyncio.wait({copy.job})
            executor = copy.executor if copy is not None else SerialExecutor(self._threads)
            await executor.run(lambda: self.store.delete(task_id))
        finally:
            if self._deletions.get(task_id) is asyncio.current_task():
                del self._deletions[task_id]
            self.on_change(task_id)
