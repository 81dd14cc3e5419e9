"""The digests of pieces and of whole files.

A piece has a BLAKE3 digest, because each node verifies each piece. A whole file has a SHA-256 digest, which users know.
"""

import hashlib
import threading
from typing import BinaryIO

import blake3

PieceHash = blake3.blake3
"""The hash of a piece. It takes a third of SHA-256's time or less (ADR 35), and lets other threads run meanwhile."""

_BLOCK = 1024 * 1024


def sha256_of(file: BinaryIO, size: int) -> str:
    """The digest of the first ``size`` bytes, in hex. Later bytes are not read: a foreign file may grow meanwhile."""
    digest = hashlib.sha256()
    while size and (block := file.read(min(size, _BLOCK))):
        digest.update(block)
        size -= len(block)
    return digest.hexdigest()


class RunningDigest:
    """The sha256 of a file, as long as its pieces arrive in order. Any thread may use it.

    The first piece out of order ends the computation. A piece that arrives while another piece is being hashed ends it
    too, because a download must not wait for this digest.
    """

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._next = 0
        self._ended = False
        self._lock = threading.Lock()

    def feed(self, piece: int, data: bytes | bytearray | memoryview) -> None:
        """Add a verified piece. A piece that was added before is ignored."""
        if self._ended or piece < self._next:
            return
        if piece > self._next or not self._lock.acquire(blocking=False):
            self._ended = True
            return
        try:
            if piece == self._next:
                self._hash.update(data)
                self._next += 1
        finally:
            self._lock.release()

    def of(self, pieces: int) -> str | None:
        """The digest of a file with ``pieces`` pieces. ``None``: they did not all arrive in order."""
        with self._lock:
            return None if self._ended or self._next != pieces else f"sha256:{self._hash.hexdigest()}"
