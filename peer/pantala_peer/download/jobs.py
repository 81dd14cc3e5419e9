"""The pieces that this node downloads now, and the readers that wait for them."""

import asyncio
from collections.abc import Awaitable, Callable

from pantala_peer.errors import FetchError
from pantala_peer.events import DownloadEnded, PeerEvents
from pantala_pieces.errors import PieceMissingError, StoreError
from pantala_protocol.sync import PieceWork

PieceStep = Callable[[PieceWork, memoryview], Awaitable[None]]


class Downloads:
    """Downloads pieces, ``parallel`` at once, in the order in which they were started.

    ``fetch`` fills a buffer from the provider (raises :class:`FetchError`). ``keep`` verifies and stores it (raises
    :class:`CorruptError`, :class:`StoreError` or :class:`PieceMissingError`). Each download ends with one
    :class:`DownloadEnded`. Failed downloads are not repeated: the supernode knows the other providers.
    """

    def __init__(self, fetch: PieceStep, keep: PieceStep, events: PeerEvents, *, parallel: int) -> None:
        self._fetch = fetch
        self._keep = keep
        self._events = events
        self._parallel = parallel
        self._slots = asyncio.Semaphore(parallel)
        self._running: dict[tuple[str, int], asyncio.Task[None]] = {}
        self._keeping: set[tuple[str, int]] = set()
        self._buffers: list[bytearray] = []

    def busy(self) -> bool:
        """True if all slots are in use, so that another download would have to wait."""
        return len(self._running) >= self._parallel

    def start(self, work: PieceWork) -> None:
        """Download a piece, unless a download of this piece is already running."""
        key = (work.task_id, work.piece)
        if key not in self._running:
            task = self._running[key] = asyncio.create_task(self._run(work, key))
            task.add_done_callback(lambda done: self._forget(key, done))

    def redirect(self, work: PieceWork) -> bool:
        """Download a piece from another provider instead. False if the piece has arrived already.

        The former download ends without an event.
        """
        key = (work.task_id, work.piece)
        if key in self._keeping:
            return False
        former = self._running.pop(key, None)
        if former is not None:
            former.cancel()
        self.start(work)
        return True

    def fetches(self, task_id: str) -> bool:
        """True while any piece of the task is being downloaded."""
        return any(name == task_id for name, _ in self._running)

    async def cancel(self, task_id: str) -> None:
        """Stop all downloads of a task. No event follows, and no piece is stored."""
        await self._stop([task for (name, _), task in self._running.items() if name == task_id])

    async def close(self) -> None:
        await self._stop(list(self._running.values()))

    async def _stop(self, tasks: list[asyncio.Task[None]]) -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, work: PieceWork, key: tuple[str, int]) -> None:
        async with self._slots:
            error = await self._download(work, key)
        del self._running[key]  # before the event: a subscriber may start the same piece again
        self._events.emit(DownloadEnded(work, error))

    async def _download(self, work: PieceWork, key: tuple[str, int]) -> Exception | None:
        """Fetch, verify and store a piece. A cancelled download never reuses its buffer, which may still be written."""
        buffer = self._buffers.pop() if self._buffers else bytearray()
        if len(buffer) < work.size:
            buffer = bytearray(work.size)
        view = memoryview(buffer)[: work.size]
        ended: Exception | None = None
        try:
            await self._fetch(work, view)
            self._keeping.add(key)
            try:
                await self._keep(work, view)
            finally:
                self._keeping.discard(key)
        except (FetchError, StoreError, PieceMissingError) as error:
            ended = error
        self._buffers.append(buffer)
        return ended

    def _forget(self, key: tuple[str, int], done: asyncio.Task[None]) -> None:
        if self._running.get(key) is done:
            del self._running[key]
        if not done.cancelled() and done.exception() is not None:
            done.get_loop().call_exception_handler({"message": "a bug ended a download", "exception": done.exception()})


class PieceWaiters:
    """Wakes the readers that wait for a task, each time a piece of it is stored."""

    def __init__(self, events: PeerEvents) -> None:
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}
        events.subscribe(DownloadEnded, self._on_download_ended)

    async def wait(self, task_id: str) -> None:
        """Return when the next piece is stored. Check for a stored piece just before, without ``await`` in between."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(task_id, set()).add(future)
        try:
            await future
        finally:
            waiting = self._waiting.get(task_id)
            if waiting is not None:
                waiting.discard(future)
                if not waiting:
                    del self._waiting[task_id]

    def _on_download_ended(self, event: DownloadEnded) -> None:
        if event.error is None:
            for waiting in self._waiting.pop(event.work.task_id, ()):
                if not waiting.done():
                    waiting.set_result(None)
