"""Puts the bytes of small files into the work for a peer, so that the peer need not fetch them."""

import asyncio
from collections.abc import Callable, Mapping

from cachetools import LRUCache
from msgspec import structs

from pantala_pieces.errors import PieceMissingError, StoreError
from pantala_pieces.file import PieceFile
from pantala_protocol.geometry import SMALL_FILE
from pantala_protocol.sync import PieceWork, SyncAnswer
from pantala_supernode.swarm.task_progress import SUPERNODE

_KEPT = 4 * 1024 * 1024
"""The most bytes of small files in memory. Other small files are read again."""


class SmallFiles:
    """Puts the bytes of small files into answers. ``lookup`` finds a task's file.

    A file that cannot be read is left out. The peer then requests the file like any other piece, and reports the error.
    """

    def __init__(self, lookup: Callable[[str], PieceFile | None], *, kept: int = _KEPT) -> None:
        self._lookup = lookup
        self._kept: LRUCache[tuple[str, str], bytes] = LRUCache(kept, getsizeof=len)

    async def fill(self, answer: SyncAnswer) -> SyncAnswer:
        """Put the bytes of small files into the work of an answer."""
        unread = [work for work in answer.work if _is_small(work) and _key(work) not in self._kept]
        read = await asyncio.to_thread(self._read, unread) if unread else {}
        for key, content in read.items():
            self._kept[key] = content
        return self.filled(answer, read)

    def has_all(self, answer: SyncAnswer) -> bool:
        """True if the bytes of all small files in an answer are in memory."""
        return not any(_is_small(work) and _key(work) not in self._kept for work in answer.work)

    def filled(self, answer: SyncAnswer, read: Mapping[tuple[str, str], bytes] | None = None) -> SyncAnswer:
        """What :meth:`fill` does, but only with the bytes in ``read`` and in memory."""
        if not any(map(_is_small, answer.work)):
            return answer
        return structs.replace(answer, work=tuple(self._filled(work, read or {}) for work in answer.work))

    def forget(self, task_id: str, _piece: int) -> None:
        """Forget the bytes of a file, so that it is read again, because a peer reports that they are wrong."""
        for key in [key for key in self._kept if key[0] == task_id]:
            del self._kept[key]

    def _filled(self, work: PieceWork, read: Mapping[tuple[str, str], bytes]) -> PieceWork:
        if not _is_small(work):
            return work
        key = _key(work)
        return structs.replace(work, content=read.get(key) or self._kept.get(key))

    def _read(self, works: list[PieceWork]) -> dict[tuple[str, str], bytes]:
        """The bytes of files by task and generation. Called in a thread."""
        contents = {}
        for work in works:
            file = self._lookup(work.task_id)
            try:
                content = (
                    file.read_verified(0) if file is not None and file.meta.generation == work.generation else None
                )
            except (PieceMissingError, StoreError):
                continue
            if content is not None and len(content) == work.size:
                contents[work.task_id, work.generation] = content
        return contents


def _is_small(work: PieceWork) -> bool:
    """True if the work for the piece contains its bytes. Small files are always given in this way."""
    return work.provider == SUPERNODE and work.piece == 0 and work.size <= SMALL_FILE


def _key(work: PieceWork) -> tuple[str, str]:
    return work.task_id, work.generation
