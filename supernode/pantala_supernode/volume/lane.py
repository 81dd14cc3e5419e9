"""Blocking work on one task's file, one job after another, beside the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

from pantala_pieces.errors import StoreError, StoreFullError
from pantala_supernode.errors import VolumeFailedError, VolumeFullError

T = TypeVar("T")


class SerialExecutor:
    """Runs jobs in threads, never two at once. A job that began is waited for, also by who was cancelled meanwhile."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._lock = asyncio.Lock()

    async def run(self, job: Callable[[], T]) -> T:
        """Run ``job``. Its store errors come as :class:`VolumeFullError` and :class:`VolumeFailedError`."""
        async with self._lock:
            future = asyncio.get_running_loop().run_in_executor(self._executor, job)
            await settled(future)
            try:
                return future.result()
            except StoreFullError as error:
                raise VolumeFullError(f"No room: {error}. {VolumeFullError.reason.action}") from error
            except StoreError as error:
                raise VolumeFailedError(f"{error}. {VolumeFailedError.reason.action}") from error


async def settled(future: asyncio.Future[T]) -> None:
    """Wait until ``future`` is done, whatever its outcome; a cancellation is passed on only then."""
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait({future})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        if not future.cancelled():
            future.exception()  # looked at, so that the loop does not complain
        raise cancelled
