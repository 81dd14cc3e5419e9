"""The md5 sums that Dragonfly's clients request. They are computed on demand, in threads, and cached.

They do not provide security. The pieces are verified with BLAKE3.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from cachetools import LRUCache

from pantala_pieces.file import PieceFile
from pantala_process.flight import SingleFlight
from pantala_protocol.geometry import OVERHEAD, Geometry, Wrapping

_MAX_CONTENTS = 1024
"""The most files whose sums are cached. The sums of the least recently used file are dropped first."""


class _Sums:
    def __init__(self) -> None:
        self.pieces: dict[int, str] = {}
        self.whole: asyncio.Task[str] | None = None


class Checksums:
    """Computes and caches the md5 sums of files and wrapped pieces. ``lookup`` finds a task's file."""

    def __init__(self, lookup: Callable[[str], PieceFile | None]) -> None:
        self._lookup = lookup
        self._threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="md5")
        self._sums: LRUCache[tuple[str, str], _Sums] = LRUCache(_MAX_CONTENTS)
        self._calls: SingleFlight[tuple[str, str, int], str] = SingleFlight()

    def pieces(self, task_id: str, generation: str) -> Mapping[int, str]:
        """The sums of pieces that were computed before. Empty: there are none, or they were dropped."""
        return self._of(task_id, generation).pieces

    async def piece(self, task_id: str, generation: str, piece: int) -> str:
        """``<md5>:<length>`` of a wrapped piece. Raises :class:`LookupError` if it is missing, and ``StoreError``.

        If the caller is cancelled, the computation continues.
        """
        sums = self._of(task_id, generation)
        if piece in sums.pieces:
            return sums.pieces[piece]
        file = self._file(task_id, generation)
        return await self._calls.share((task_id, generation, piece), partial(self._piece, sums, file, piece))

    async def whole(self, task_id: str, generation: str) -> str:
        """The md5 of the file. If the caller is cancelled, the computation continues. Raises as :meth:`piece`."""
        sums = self._of(task_id, generation)
        if sums.whole is None or (sums.whole.done() and (sums.whole.cancelled() or sums.whole.exception())):
            sums.whole = asyncio.create_task(self._whole(self._file(task_id, generation)))
        return await asyncio.shield(sums.whole)

    def close(self) -> None:
        for sums in self._sums.values():
            if sums.whole is not None:
                sums.whole.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _piece(self, sums: _Sums, file: PieceFile, piece: int) -> str:
        loop = asyncio.get_running_loop()
        found = sums.pieces[piece] = await loop.run_in_executor(self._threads, _piece_sum, file, piece)
        return found

    async def _whole(self, file: PieceFile) -> str:
        if file.meta.length is None:
            raise LookupError(f"the copy of task {file.meta.task_id} is not complete")
        state = hashlib.md5(usedforsecurity=False)
        for piece in range(Geometry(file.meta.piece_size, file.meta.length).pieces):
            await asyncio.get_running_loop().run_in_executor(self._threads, _add, state, file, piece)
        return state.hexdigest()

    def _of(self, task_id: str, generation: str) -> _Sums:
        sums = self._sums.get((task_id, generation))
        if sums is None:
            sums = self._sums[task_id, generation] = _Sums()
        return sums

    def _file(self, task_id: str, generation: str) -> PieceFile:
        file = self._lookup(task_id)
        if file is None or file.meta.generation != generation:
            raise LookupError(f"this supernode has no copy of task {task_id} with generation {generation}")
        return file


def _piece_sum(file: PieceFile, piece: int) -> str:
    content = file.read(piece)
    wrapped = Wrapping(file.meta.piece_size).wrap(content)
    return f"{hashlib.md5(wrapped, usedforsecurity=False).hexdigest()}:{len(content) + OVERHEAD}"


def _add(state: hashlib._Hash, file: PieceFile, piece: int) -> None:
    state.update(file.read(piece))
