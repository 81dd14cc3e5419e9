"""A table of unfinished pieces and their written bytes. It survives the end of the process, but not a reboot.

The page cache keeps the data file and this table consistent while the machine runs, so neither is synced. The table has
the boot ID of the machine (16 bytes) and ``_SLOTS`` records, ``piece:u32 | bytes:u32 | crc32 of these bytes:u32 | crc32
of the first 12:u32``, big endian. A piece uses the slot with its number modulo ``_SLOTS``. A wrong record is ignored.
So a table of the previous version counts as empty, because its records are shorter. After a reboot, the table counts as
empty too.
"""

import os
import struct
import threading
import uuid
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from pantala_pieces.descriptor import Descriptor
from pantala_pieces.errors import LOST

_BODY = struct.Struct(">III")
_CRC = struct.Struct(">I")
_RECORD_SIZE = _BODY.size + _CRC.size
_HEADER = 16
_SLOTS = 64
"""The number of records. It is at least the number of connections that read one file."""


def boot_id() -> bytes:
    """The kernel's random ID of the current boot. Raises :class:`OSError`."""
    return uuid.UUID(Path("/proc/sys/kernel/random/boot_id").read_text().strip()).bytes


class Part(NamedTuple):
    """The written bytes of an unfinished piece."""

    size: int
    crc: int
    """The crc32 of these bytes. It shows damage on the disk while the digest of the piece is not known."""

    def extended(self, data: bytes | bytearray | memoryview) -> "Part":
        return Part(self.size + len(data), zlib.crc32(data, self.crc))

    def matches(self, data: bytes) -> bool:
        return len(data) == self.size and zlib.crc32(data) == self.crc


NO_PART: Final = Part(0, 0)


class PartTable(Descriptor):
    """The table of one file. Any thread may use it. Its methods raise :class:`OSError`."""

    def __init__(self, path: Path) -> None:
        self._written: dict[int, Part] = {}
        super().__init__(path, lambda: os.O_RDWR)
        self._beginning = threading.Lock()
        self._begun = False

    @property
    def sizes(self) -> dict[int, int]:
        """The number of written bytes of each unfinished piece."""
        return {piece: part.size for piece, part in tuple(self._written.items())}

    def part(self, piece: int) -> Part:
        return self._written.get(piece, NO_PART)

    def take(self, piece: int) -> Part:
        """Forget a part in memory, and return it. Its record in the file stays."""
        return self._written.pop(piece, NO_PART)

    def load(self, is_intact: Callable[[int, Part], bool]) -> None:
        """Use the parts of an earlier process that are still as they were written. None after a reboot."""
        self._written = {piece: part for piece, part in self.read().items() if is_intact(piece, part)}

    def read(self) -> dict[int, Part]:
        """The parts in the file. Empty after a reboot."""
        try:
            with self.using() as fd:
                content = os.pread(fd, _HEADER + _SLOTS * _RECORD_SIZE, 0)
        except OSError as error:
            if error.errno not in LOST:
                raise
            return {}
        if content[:_HEADER] != boot_id():
            return {}
        self._begun = True
        return dict(decode(content[_HEADER:]))

    def note(self, piece: int, part: Part) -> None:
        """Record which part of a piece is written. ``NO_PART``: the piece is finished."""
        if part is not NO_PART:
            self._written[piece] = part
        with self.using(os.O_CREAT) as fd:
            if not self._begun:
                self._begin(fd)
            os.pwrite(fd, encode(piece, part), _HEADER + piece % _SLOTS * _RECORD_SIZE)

    def clear(self) -> None:
        """Forget all parts, also in the file."""
        self.forget()
        with self._beginning, self.using(os.O_CREAT) as fd:
            self._begun = False
            os.ftruncate(fd, 0)

    def forget(self) -> None:
        self._written = {}

    def _begin(self, fd: int) -> None:
        with self._beginning:
            if not self._begun:
                os.ftruncate(fd, 0)
                os.pwrite(fd, boot_id() + bytes(_SLOTS * _RECORD_SIZE), 0)
                self._begun = True


def encode(piece: int, part: Part) -> bytes:
    body = _BODY.pack(piece, *part)
    return body + _CRC.pack(zlib.crc32(body))


def decode(records: bytes) -> Iterator[tuple[int, Part]]:
    """Yield the records with a correct checksum. ``records`` is the table without its header."""
    for start in range(0, len(records) - _RECORD_SIZE + 1, _RECORD_SIZE):
        body, crc = records[start : start + _BODY.size], records[start + _BODY.size : start + _RECORD_SIZE]
        if _CRC.pack(zlib.crc32(body)) == crc:
            piece, size, sum_of_bytes = _BODY.unpack(body)
            yield piece, Part(size, sum_of_bytes)
