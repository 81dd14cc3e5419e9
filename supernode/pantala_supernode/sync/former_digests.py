"""The SHA-256 of pieces, for peers of the former version, which do not know BLAKE3.

During an upgrade, supernodes are replaced in minutes, and the peers of a large cluster in hours.
"""

import asyncio
import hashlib
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from cachetools import LRUCache

from pantala_pieces.errors import PieceMissingError, StoreError
from pantala_pieces.file import PieceFile
from pantala_protocol.task_id import TaskID

_KEPT = 65536
"""The most digests in memory."""

_AT_ONCE = 4
"""The most pieces that are hashed at once. Hashing uses the threads of the process. This leaves some for other work."""

_MOST_WAITING = 256
"""The most pieces that wait until they are hashed. A peer asks again for the others."""


class _Key(NamedTuple):
    task_id: TaskID
    generation: str
    piece: int


class FormerDigests:
    """Hashes pieces in threads, when a former peer needs them. ``lookup`` finds a task's file.

    ``on_known`` is called with a task when one more of its digests is known. ``on_damaged`` is called with a piece that
    cannot be read, or whose bytes have changed on the disk.
    """

    def __init__(
        self,
        lookup: Callable[[str], PieceFile | None],
        *,
        on_known: Callable[[TaskID], None],
        on_damaged: Callable[[TaskID, int], None],
    ) -> None:
        self._lookup = lookup
        self._on_known = on_known
        self._on_damaged = on_damaged
        self._known: LRUCache[_Key, str] = LRUCache(_KEPT)
        self._hashing = set[_Key]()
        self._waiting: dict[_Key, None] = {}
        """The pieces that are hashed next, in the order of the requests. So no task takes all threads."""

    def of(self, task_id: TaskID, generation: str, piece: int) -> str:
        """The SHA-256 of a cached piece in hex. Raises :class:`PieceMissingError` until the piece is hashed."""
        key = _Key(task_id, generation, piece)
        found = self._known.get(key)
        if found is not None:
            return found
        if key not in self._hashing and len(self._waiting) < _MOST_WAITING:
            self._waiting[key] = None
            self._begin()
        raise PieceMissingError(f"the SHA-256 of piece {piece} of task {task_id} is not known yet")

    def _begin(self) -> None:
        """Hash as many waiting pieces as may be hashed at once."""
        while self._waiting and len(self._hashing) < _AT_ONCE:
            key = next(iter(self._waiting))
            hashing = asyncio.get_running_loop().run_in_executor(None, self._hash, key)
            del self._waiting[key]
            self._hashing.add(key)
            hashing.add_done_callback(partial(self._take, key))

    def _hash(self, key: _Key) -> str | None:
        """The digest. ``None``: the bytes have changed on the disk. Called in a thread."""
        file = self._lookup(key.task_id)
        if file is None or file.meta.generation != key.generation:
            raise PieceMissingError(f"generation {key.generation} of task {key.task_id} is not cached")
        data = file.read_verified(key.piece)
        return None if data is None else hashlib.sha256(data).hexdigest()

    def _take(self, key: _Key, hashing: asyncio.Future[str | None]) -> None:
        self._hashing.discard(key)
        if hashing.cancelled():  # the process ends
            return
        self._begin()
        try:
            digest = hashing.result()
        except PieceMissingError:
            return
        except StoreError:
            digest = None
        if digest is None:
            self._on_damaged(key.task_id, key.piece)
        else:
            self._known[key] = digest
            self._on_known(key.task_id)
