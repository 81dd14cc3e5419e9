"""Stores the pieces of one generation of a file, and computes the digest of the complete file at the same time."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec

from pantala_pieces.digests import PieceHash
from pantala_pieces.errors import StoreError, store_errors
from pantala_pieces.file import Piece, PieceFile
from pantala_pieces.meta import Meta
from pantala_protocol import digest, ranges
from pantala_protocol.digest import Digest
from pantala_protocol.geometry import Geometry
from pantala_protocol.rules import rights
from pantala_supernode.errors import DigestMismatchError, SourceChangedError, VolumeFailedError

Buffer = bytes | bytearray

_READ = 256 * 1024
"""Bytes of one read from the disk."""


@dataclass
class _Running:
    """A hash that has read all pieces before piece number ``next``."""

    state: hashlib._Hash
    next: int = 0

    def copy(self) -> _Running:
        return _Running(self.state.copy(), self.next)


class Recorder:
    """Stores pieces in ``file``, hashes each piece and the whole file, and checks the digest of the whole file.

    Its methods block, and only one thread may call them at a time. Raises :class:`pantala_pieces.errors.StoreError`.
    """

    def __init__(self, file: PieceFile, *, verified: bool, client: str = "") -> None:
        self._file = file
        self._whole = _Running(digest.new("sha256"))
        self._lost: dict[int, bytes] = {}
        self.client = client
        """As in :attr:`Copy.client`."""
        self.verified = verified
        """False if the file comes from an earlier process and :meth:`recover` has not hashed its pieces yet."""

    @property
    def meta(self) -> Meta:
        return self._file.meta

    @property
    def have(self) -> int:
        """The durable and verified pieces, as a bit mask."""
        return self._file.have

    @property
    def total(self) -> int | None:
        """The number of pieces, if the length is known."""
        return None if self.meta.length is None else Geometry(self.meta.piece_size, self.meta.length).pieces

    @property
    def missing(self) -> int | None:
        """The missing pieces, as a bit mask. ``None``: the length is not known."""
        return None if self.total is None else (1 << self.total) - 1 & ~self.have

    @property
    def parts(self) -> int:
        """The unfinished pieces of which a part is written, as a bit mask."""
        return sum(1 << piece for piece in tuple(self._file.parts))

    @property
    def kept_bytes(self) -> int:
        """The bytes of all pieces and of unfinished pieces. The last piece counts as a full piece."""
        return self.have.bit_count() * self.meta.piece_size + sum(tuple(self._file.parts.values()))

    def part_size(self, piece: int) -> int:
        """How many bytes of an unfinished piece need not be requested. Its last byte is always requested."""
        size, length = self.meta.piece_size, self.meta.length
        expected = size if length is None else min(size, length - piece * size)
        return max(0, min(self._file.parts.get(piece, 0), expected - 1))

    def read_part(self, piece: int) -> bytes:
        """The first :meth:`part_size` bytes of an unfinished piece."""
        return self._file.read_part(piece)[: self.part_size(piece)]

    def save_part(self, piece: int, start: int, data: memoryview) -> None:
        """Write the next bytes of an unfinished piece, so that they survive the end of the process.

        Any thread may call this.
        """
        with contextlib.suppress(StoreError):  # the piece is written as a whole later
            self._file.extend(piece, start, data)

    def piece_digest(self, piece: int) -> bytes:
        return self._file.digest(piece)

    def recover(self) -> int:
        """After a restart, hash all pieces and forget damaged ones, so that an incomplete file can be continued.

        Returns the bytes that an earlier process read from the origin, or 0 if this was done already.
        """
        if self.verified:
            return 0
        self._whole = whole = _Running(digest.new("sha256"))  # an earlier call may have failed in the middle

        def feed(piece: int, data: bytes) -> None:
            if piece == whole.next:
                whole.state.update(data)
                whole.next += 1

        self._file.verify(feed)
        right = self.missing == 0 and self.meta.digest == f"sha256:{whole.state.hexdigest()}"
        if self.meta.digest and not right:
            self._file.update(msgspec.structs.replace(self.meta, digest=""))
        if self.meta.length == 0:
            self._file.reserve()
        self._file.close()
        self.verified = True
        kept = sum(self._file.size(piece) for piece in ranges.members(self.have))
        return self.meta.origin_bytes or kept + sum(tuple(self._file.parts.values()))

    def lose(self, pieces: int) -> None:
        """Remove damaged pieces (bit mask) from the file. Their replacements must have the same digests."""
        for piece in ranges.members(pieces & self.have):
            self._lost[piece] = self._file.digest(piece)
        self._file.forget(pieces)
        if self.meta.digest:
            self._file.update(msgspec.structs.replace(self.meta, digest=""))
            self._file.close()  # the file was read-only, because it was complete; the next use opens it for writing

    def confirm(self, at: float, lifetime: float | None) -> None:
        """Record that the origin confirmed this content at ``at``, for ``lifetime`` seconds."""
        self._file.update(msgspec.structs.replace(self.meta, confirmed=at, lifetime=lifetime))

    def claim(self, claims: Iterable[str]) -> None:
        self._file.update(msgspec.structs.replace(self.meta, claims=tuple(sorted(claims))))

    def vouch(self, origin: str) -> None:
        """Record that a repository sent the whole blob, with the right digest."""
        origins = [known for known in self.meta.origins if known != origin]
        self._file.update(msgspec.structs.replace(self.meta, origins=(*origins[1 - rights.ORIGINS :], origin)))

    def keep(self, pieces: Mapping[int, Buffer]) -> None:
        whole = self._whole.copy()
        self._advance(whole, pieces)
        self._put(pieces)
        self._whole = whole

    def conclude(self, last: Mapping[int, Buffer], length: int, expected: Digest | None, origin_bytes: int) -> None:
        """Check the whole file's digest, store ``last`` (its last piece, or nothing), and record the digest.

        After :class:`DigestMismatchError`, ``last`` is not stored. ``origin_bytes`` is recorded for the next process.
        """
        algorithms = {"sha256"} if expected is None else {"sha256", expected.algorithm}
        found = {name: self._finish(name, last, length) for name in algorithms}
        if expected is not None and found[expected.algorithm] != expected.hex:
            raise DigestMismatchError.with_action(
                f"The origin's file ({length} bytes) has the digest {expected.algorithm}:{found[expected.algorithm]}, "
                f"not {expected}"
            )
        if self.meta.length is None:  # before the last piece, which cannot be recognised without the length
            self._file.update(msgspec.structs.replace(self.meta, length=length))
        self._put(last)
        digest_of_all = f"sha256:{found['sha256']}"
        self._file.update(msgspec.structs.replace(self.meta, digest=digest_of_all, origin_bytes=origin_bytes))
        self._file.close()

    def _finish(self, algorithm: str, last: Mapping[int, Buffer], length: int) -> str:
        running = self._whole.copy() if algorithm == "sha256" else _Running(digest.new_checksum(algorithm))
        self._advance(running, last)
        if running.next != Geometry(self.meta.piece_size, length).pieces:
            raise VolumeFailedError(
                f"Piece {running.next} of task {self.meta.task_id} is missing on the volume. It is fetched again."
            )
        return running.state.hexdigest()

    def _advance(self, running: _Running, fresh: Mapping[int, Buffer]) -> None:
        """Hash from ``running.next`` to the first missing piece. Pieces outside ``fresh`` are read from the disk."""
        while running.next in fresh or self.have >> running.next & 1:
            if running.next in fresh:
                running.state.update(fresh[running.next])
            else:
                self._read_back(running.next, running.state)
            running.next += 1

    def _read_back(self, piece: int, whole: hashlib._Hash) -> None:
        """Add a piece on the disk to ``whole``. Its bytes are not in memory all at once."""
        begin, size, own = piece * self.meta.piece_size, self._file.size(piece), PieceHash()
        with store_errors(f"read piece {piece} of {self._file.path}"), self._file.opened() as fd:
            for offset in range(0, size, _READ):
                data = os.pread(fd, min(_READ, size - offset), begin + offset)
                own.update(data)
                whole.update(data)
        if own.digest() != self._file.digest(piece):
            self._file.forget(1 << piece)
            raise VolumeFailedError(
                f"Piece {piece} of task {self.meta.task_id} is damaged on the volume. It is fetched again."
            )

    def _put(self, pieces: Mapping[int, Buffer]) -> None:
        made = [Piece(number, data, PieceHash(data).digest()) for number, data in pieces.items()]
        for piece in made:
            if self._lost.get(piece.number, piece.digest) != piece.digest:
                raise SourceChangedError.with_action(f"Piece {piece.number} of the origin's file has changed")
        if made:
            self._file.put(made)
