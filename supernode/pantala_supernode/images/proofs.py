"""Proves that a repository has a cached blob: it must have the same bytes at a random position."""

import asyncio
import random
from collections.abc import Callable
from contextlib import aclosing

import structlog

from pantala_pieces.errors import PieceMissingError, StoreError
from pantala_pieces.store import PieceStore
from pantala_protocol import ranges
from pantala_protocol.task_id import TaskID
from pantala_supernode.errors import SupernodeError
from pantala_supernode.origin.body import Layout
from pantala_supernode.origin.source import Answer, Resume, SourceReader
from pantala_supernode.tasks.copy import Copy, FileSource

_log = structlog.get_logger(__name__)

_BYTES = 64
"""The number of bytes to compare: too many to be equal by chance."""
_SECONDS = 10.0
"""The time limit for a registry's answer."""
_AT_ONCE = 16
_SKIPPED = 64 * 1024 * 1024
"""The most bytes to skip in a body if the registry ignores the range of the request."""

Tell = Callable[[str, FileSource, bool], None]
"""Is called with a task ID, a source, and whether the source has the content of the task."""


class BlobProver:
    """Checks whether sources have blobs. Equal checks at one time share a request. ``chance`` chooses the bytes."""

    def __init__(self, store: PieceStore, reader: SourceReader, chance: random.Random) -> None:
        self._store = store
        self._reader = reader
        self._chance = chance
        self._turn = asyncio.Semaphore(_AT_ONCE)
        self._checks: dict[tuple[str, FileSource], asyncio.Task[None]] = {}

    def ask(self, copy: Copy, origin: FileSource, tell: Tell) -> None:
        """Check in the background whether ``origin`` has the content of ``copy``, and call ``tell`` with the result."""
        key = (copy.task_id, origin)
        if key not in self._checks:
            self._checks[key] = asyncio.create_task(self._check(copy, origin, tell))

    async def close(self) -> None:
        for task in list(self._checks.values()):
            task.cancel()
        await asyncio.gather(*self._checks.values(), return_exceptions=True)

    async def _check(self, copy: Copy, origin: FileSource, tell: Tell) -> None:
        proved = False
        try:
            async with self._turn, asyncio.timeout(_SECONDS):
                proved = await self._is_same(copy, origin)
            if not proved:
                _log.warning("a registry sent other bytes than the cached blob", task=copy.task_id, origin=origin)
        except (SupernodeError, StoreError, PieceMissingError, TimeoutError) as error:
            _log.info(
                "cannot check if a repository has a cached blob", task=copy.task_id, origin=origin, error=str(error)
            )
        finally:
            self._checks.pop((copy.task_id, origin), None)
        tell(copy.task_id, origin, proved)

    async def _is_same(self, copy: Copy, origin: FileSource) -> bool:
        file = self._store.get(TaskID(copy.task_id))
        here = copy.cached & file.have if file is not None else 0  # without pieces that were found to be damaged
        if file is None or not here:
            return False
        piece = self._chance.choice(list(ranges.members(here)))
        data = await asyncio.to_thread(file.read, piece)
        begin = self._chance.randrange(max(1, len(data) - _BYTES + 1))
        expected, start = bytes(data[begin : begin + _BYTES]), piece * copy.piece_size + begin
        resume = Resume(start, start + len(expected), "", copy.generation) if expected else None
        async with self._reader.open(origin, resume) as answer:
            return expected == await _read(answer, start, len(expected))


async def _read(answer: Answer, start: int, size: int) -> bytes:
    """The ``size`` bytes at position ``start`` of the file, from an answer that may begin before it."""
    skipped = start - answer.offset
    if not 0 <= skipped <= _SKIPPED:
        return b""
    async with aclosing(answer.body.blocks(Layout(max(size, 1), skipped))) as blocks:
        async for block in blocks:
            return bytes(block)
    return b""
