"""The journal of a file: the pieces on the disk and their digests.

A record has 44 bytes, ``piece:u32 | size:u32 | sha256:32 | crc32 of the first 40:u32``, big endian. Records are only
appended, and only after the piece's bytes are durable. Reading stops at an incomplete or wrong record.
"""

import struct
import zlib
from collections.abc import Iterator

import msgspec

from pantala_protocol.ranges import MAX_PIECE

_BODY = struct.Struct(">II32s")
_CRC = struct.Struct(">I")
RECORD_SIZE = _BODY.size + _CRC.size


class JournalRecord(msgspec.Struct, frozen=True):
    """One durable piece."""

    piece: int
    size: int
    sha256: bytes


def encode(record: JournalRecord) -> bytes:
    """The 44 bytes of a record."""
    body = _BODY.pack(record.piece, record.size, record.sha256)
    return body + _CRC.pack(zlib.crc32(body))


def decode(data: bytes) -> Iterator[JournalRecord]:
    """Yield the records up to the first incomplete or wrong one."""
    for start in range(0, len(data) - RECORD_SIZE + 1, RECORD_SIZE):
        body = data[start : start + _BODY.size]
        (crc,) = _CRC.unpack_from(data, start + _BODY.size)
        if zlib.crc32(body) != crc:
            return
        record = JournalRecord(*_BODY.unpack(body))
        if record.piece > MAX_PIECE:
            return
        yield record
