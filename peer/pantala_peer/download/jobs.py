"""The pieces that are being fetched."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple, Protocol

from pantala_peer.download.providers import Provider
from pantala_peer.errors import LOCAL, FetchError
from pantala_pieces.errors import PieceMissingError, StoreError
from pantala_protocol.sync import Work


class Keeper(Protocol):
    """The port to where fetched pieces are verified and kept."""

    async def put(self, work: Work, data: memoryview) -> None:
        """Verify and keep. Raises :class:`CorruptError`, :class:`StoreError` or :class:`PieceMissingError`."""
        ...


class Outcome(NamedTuple):
    """How the fetch of one piece ended. ``kind`` is PieceFailure's; empty: the piece is held."""

    work: Work
    kind: str = ""
    error: Exception | None = None


class Downloads:
    """Fetches pieces, ``parallel`` at once, first come, first served; ``ended`` is told of each once.

    Nothing is tried again here: who else has the piece is the supernode's to know.
    """

    def __init__(self, provider: Provider, keeper: Keeper, *, parallel: int, ended: Callable[[Outcome], None]) -> None:
        self._provider = provider
        self._keeper = keeper
        self._parallel = parallel
        self._slots = asyncio.Semaphore(parallel)
        self._ended = ended
        self._running: dict[tuple[str, int], asyncio.Task[None]] = {}
        self._keeping: set[tuple[str, int]] = set()
        self._buffers: list[bytearray] = []

    @property
    def busy(self) -> bool:
        """As many fetches are under way as may be."""
        return len(self._running) >= self._parallel

    def start(self, work: Work) -> None:
        """Fetch a piece, unless it is being fetched."""
        key = (work.task_id, work.piece)
        if key not in self._running:
            task = self._running[key] = asyncio.create_task(self._run(work, key))
            task.add_done_callback(lambda done: self._forget(key, done))

    def redirect(self, work: Work) -> bool:
        """Fetch a piece from this provider instead, unless it came already; nothing is told of the former fetch."""
        key = (work.task_id, work.piece)
        if key in self._keeping:
            return False
        former = self._running.pop(key, None)
        if former is not None:
            former.cancel()
        self.start(work)
        return True

    def fetches(self, task_id: str) -> bool:
        """Whether a piece of the task is being fetched."""
        return any(name == task_id for name, _ in self._running)

    async def cancel(self, task_id: str) -> None:
        """Stop all fetches of a task; nothing of it is told or kept any more."""
        await self._stop([task for (name, _), task in self._running.items() if name == task_id])

    async def close(self) -> None:
        """Stop all."""
        await self._stop(list(self._running.values()))

    async def _stop(self, tasks: list[asyncio.Task[None]]) -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, work: Work, key: tuple[str, int]) -> None:
        async with self._slots:
            outcome = await self._fetch(work)
        del self._running[key]  # who is told may begin the same piece anew
        self._ended(outcome)

    async def _fetch(self, work: Work) -> Outcome:
        """Fetch, verify and keep. A buffer goes back only when nobody can write to it any more."""
        buffer = self._buffers.pop() if self._buffers else bytearray()
        if len(buffer) < work.size:
            buffer = bytearray(work.size)
        view = memoryview(buffer)[: work.size]
        try:
            await self._provider.fetch(work, view)
            await self._keep(work, view)
        except FetchError as error:
            outcome = Outcome(work, error.kind, error)
        except (StoreError, PieceMissingError) as error:
            outcome = Outcome(work, LOCAL, error)
        else:
            outcome = Outcome(work)
        self._buffers.append(buffer)
        return outcome

    async def _keep(self, work: Work, view: memoryview) -> None:
        key = (work.task_id, work.piece)
        self._keeping.add(key)
        try:
            await self._keeper.put(work, view)
        finally:
            self._keeping.discard(key)

    def _forget(self, key: tuple[str, int], done: asyncio.Task[None]) -> None:
        if self._running.get(key) is done:
            del self._running[key]
        if not done.cancelled() and done.exception() is not None:
            done.get_loop().call_exception_handler({"message": "a fetch ended in a bug", "exception": done.exception()})
