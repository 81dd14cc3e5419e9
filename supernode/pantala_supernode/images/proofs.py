"""Whether a repository has a blob that is here already: a few bytes of it, at a random place, are the same there."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import structlog

from pantala_pieces.errors import PieceMissingError, StoreError
from pantala_pieces.store import PieceStore
from pantala_protocol import ranges
from pantala_protocol.task_id import TaskID
from pantala_supernode.errors import SupernodeError
from pantala_supernode.origin.source import Answer, Resume, SourceReader
from pantala_supernode.tasks.copy import Copy, FileSource

_log = structlog.get_logger(__name__)

_BYTES = 64
"""Nobody guesses so many."""
_SECONDS = 10.0
"""In which a registry has to give them."""
_AT_ONCE = 16
_SKIPPED = 64 * 1024 * 1024
"""Bytes that are read past, where a registry gives the whole instead."""


Tell = Callable[[str, FileSource, bool], None]
"""Takes the task, the origin and whether the origin has the content."""


class Proofs:
    """Asks for them. ``chance`` chooses the bytes."""

    def __init__(
        self,
        store: PieceStore,
        reader: SourceReader,
        chance: random.Random,
    ) -> None:
        self._store = store
        self._reader = reader
        self._chance = chance
        self._turn = asyncio.Semaphore(_AT_ONCE)
        self._under_way: dict[tuple[str, FileSource], asyncio.Task[None]] = {}

    def ask(self, copy: Copy, origin: FileSource, tell: Tell) -> None:
        """Find out whether ``origin`` has the content of the copy, of which some pieces are here, and ``tell``."""
        key = (copy.task_id, origin)
        if key not in self._under_way:
            self._under_way[key] = asyncio.create_task(self._answer(copy, origin, tell))

    async def close(self) -> None:
        """Stop asking."""
        for task in list(self._under_way.values()):
            task.cancel()
        await asyncio.gather(*self._under_way.values(), return_exceptions=True)

    async def _answer(self, copy: Copy, origin: FileSource, tell: Tell) -> None:
        proved = False
        try:
            async with self._turn, asyncio.timeout(_SECONDS):
                proved = await self._is_same(copy, origin)
            if not proved:
                _log.warning("a repository has other bytes than the blob's", task=copy.task_id, origin=origin)
        except (SupernodeError, StoreError, PieceMissingError, TimeoutError) as error:
            _log.info("a repository does not show that it has a blob", task=copy.task_id, origin=origin, why=str(error))
        finally:
            self._under_way.pop((copy.task_id, origin), None)
        tell(copy.task_id, origin, proved)

    async def _is_same(self, copy: Copy, origin: FileSource) -> bool:
        file = self._store.get(TaskID(copy.task_id))
        here = copy.cached & file.have if file is not None else 0  # a piece may have gone bad since
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
    """The bytes at ``start``, of an answer that begins there or earlier."""
    skipped, read = start - answer.offset, bytearray()
    if not 0 <= skipped <= _SKIPPED:
        return b""
    async for chunk in answer.chunks:
        read += chunk[skipped:] if skipped else chunk
        skipped = max(0, skipped - len(chunk))
        if len(read) >= size > 0:
            break
    return bytes(read[:size] if size else read)
