"""The SHA-256 of pieces, for peers of the former version, which do not know BLAKE3.

During an upgrade, supernodes are replaced in minutes, and the peers of a large cluster in hours.
"""

import asyncio
import hashlib
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from cachetools import LRUCache
from msgspec import structs

from pantala_pieces.errors import PieceMissingError, StoreError
from pantala_pieces.file import PieceFile
from pantala_process.flight import SingleFlight
from pantala_protocol.sync import PieceWork, SyncAnswer
from pantala_protocol.task_id import TaskID

_KEPT = 65536
"""The most digests in memory."""

_AT_ONCE = 4
"""The most pieces that are hashed at once. Each uses a thread. The limit leaves threads for other work."""


class _Key(NamedTuple):
    task_id: str
    generation: str
    piece: int


class FormerDigests:
    """Adds the SHA-256 of each piece to answers. ``lookup`` finds a task's file.

    ``on_damaged`` is called with a piece that cannot be read, or whose bytes have changed on the disk. The answer then
    has no SHA-256 for this piece. So the peer reports the piece as corrupt, and fetches it again.
    """

    def __init__(self, lookup: Callable[[str], PieceFile | None], *, on_damaged: Callable[[TaskID, int], None]) -> None:
        self._lookup = lookup
        self._on_damaged = on_damaged
        self._known: LRUCache[_Key, str] = LRUCache(_KEPT)
        self._calls: SingleFlight[_Key, str] = SingleFlight()
        self._places = asyncio.Semaphore(_AT_ONCE)

    async def fill(self, answer: SyncAnswer) -> SyncAnswer:
        work = await asyncio.gather(*map(self._filled, answer.work))
        return structs.replace(answer, work=tuple(work))

    async def _filled(self, work: PieceWork) -> PieceWork:
        key = _Key(work.task_id, work.generation, work.piece)
        digest = self._known.get(key) or await self._calls.share(key, partial(self._find, key))
        return structs.replace(work, sha256=digest)

    async def _find(self, key: _Key) -> str:
        async with self._places:
            try:
                digest = await asyncio.to_thread(self._hash, key)
            except PieceMissingError:
                return ""
            except StoreError:
                digest = ""
        if digest:
            self._known[key] = digest
        else:
            self._on_damaged(TaskID(key.task_id), key.piece)
        return digest

    def _hash(self, key: _Key) -> str:
        """The digest. Empty: the bytes have changed on the disk. Called in a thread."""
        file = self._lookup(key.task_id)
        if file is None or file.meta.generation != key.generation:
            raise PieceMissingError(f"generation {key.generation} of task {key.task_id} is not cached")
        data = file.read_verified(key.piece)
        return "" if data is None else hashlib.sha256(data).hexdigest()
