"""Completes the work for peers of the former version, which compare pieces by SHA-256.

During an upgrade, supernodes are replaced in minutes, and the peers of a large cluster in hours.
"""

import asyncio
import hashlib
from collections.abc import Callable

from cachetools import LRUCache
from msgspec import structs

from pantala_pieces.errors import PieceMissingError, StoreError
from pantala_pieces.file import PieceFile
from pantala_protocol.sync import PieceWork, SyncAnswer
from pantala_supernode.sync.small_files import SmallFiles

_KEPT = 65536
"""The most digests in memory."""


class FormerPeers:
    """Puts the SHA-256 of pieces into answers. ``lookup`` finds a task's file.

    A piece that cannot be read has no SHA-256. The peer then reports it as wrong, and the supernode inspects it.
    """

    def __init__(self, lookup: Callable[[str], PieceFile | None], small_files: SmallFiles) -> None:
        self._lookup = lookup
        self._small_files = small_files
        self._kept: LRUCache[tuple[str, str, int], str] = LRUCache(_KEPT)

    async def fill(self, answer: SyncAnswer) -> SyncAnswer:
        """Complete the work of an answer. Small files come with their bytes."""
        digests = {key: self._kept[key] for key in map(_key, answer.work) if key in self._kept}
        unknown = [work for work in answer.work if _key(work) not in digests]
        found = await asyncio.to_thread(self._hash, unknown) if unknown else {}
        self._kept.update(found)
        digests |= found
        completed = (structs.replace(work, sha256=digests.get(_key(work), "")) for work in answer.work)
        return await self._small_files.fill(structs.replace(answer, work=tuple(completed)))

    def _hash(self, works: list[PieceWork]) -> dict[tuple[str, str, int], str]:
        """The digests of verified pieces. Called in a thread."""
        found = {}
        for work in works:
            file = self._lookup(work.task_id)
            try:
                data = file.read_verified(work.piece) if file is not None else None
            except (PieceMissingError, StoreError):
                continue
            if file is not None and data is not None and file.meta.generation == work.generation:
                found[_key(work)] = hashlib.sha256(data).hexdigest()
        return found


def _key(work: PieceWork) -> tuple[str, str, int]:
    return work.task_id, work.generation, work.piece
