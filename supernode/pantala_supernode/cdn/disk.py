"""Blocking work on one copy's files, outside the event loop."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from typing import TypeVar

from pantala_pieces.errors import StoreError, StoreFullError
from pantala_pieces.store import PieceStore
from pantala_supernode.cdn.attempts import Attempts
from pantala_supernode.errors import VolumeFailedError, VolumeFullError

T = TypeVar("T")

MakeRoom = Callable[[int], Awaitable[bool]]
"""Evicts unwanted copies to free the given number of bytes. Returns whether a retry may succeed now."""


class SerialExecutor:
    """Runs jobs in threads, one at a time. A cancelled caller still waits for a job that has started."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._lock = asyncio.Lock()

    async def run(self, job: Callable[[], T]) -> T:
        """Run ``job``. Raises :class:`VolumeFullError` or :class:`VolumeFailedError` if it raises a ``StoreError``."""
        async with self._lock:
            future = asyncio.get_running_loop().run_in_executor(self._executor, job)
            await settled(future)
            try:
                return future.result()
            except StoreFullError as error:
                raise VolumeFullError.with_action(
                    f"The supernode's volume has no room for the file: {error.why}"
                ) from error
            except StoreError as error:
                raise VolumeFailedError.with_action(f"The supernode's volume failed: {error}") from error


class VolumeWriter:
    """Runs the disk jobs of one copy. If a job needs room, evicts other copies. ``attempts`` records a lack of room."""

    def __init__(self, executor: SerialExecutor, store: PieceStore, attempts: Attempts, make_room: MakeRoom) -> None:
        self._executor = executor
        self.store = store
        self._attempts = attempts
        self._make_room = make_room

    async def run(self, job: Callable[[], T], size: int = 0) -> T:
        """Run ``job``, which writes ``size`` bytes, and repeat it after evictions. Raises :class:`VolumeFullError`."""
        while True:
            try:
                return await self._executor.run(job)
            except VolumeFullError:
                if await self._make_room(size):
                    continue
                self._attempts.room_needed = size
                raise

    async def run_once(self, job: Callable[[], T]) -> T:
        """Run ``job`` without evicting copies. Raises :class:`VolumeFullError`."""
        return await self._executor.run(job)

    async def check_room(self) -> None:
        """Raise :class:`VolumeFullError` if the room that an earlier job lacked is still missing."""
        if needed := self._attempts.room_needed:
            await self.run(lambda: self.store.usage().check(needed, "store the file"), needed)
            self._attempts.room_needed = 0


async def settled(future: asyncio.Future[T]) -> None:
    """Wait until ``future`` is done, with any outcome. A cancellation of the caller takes effect only after that."""
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait({future})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        if not future.cancelled():
            future.exception()  # retrieved, so that the loop does not log it
        raise cancelled
