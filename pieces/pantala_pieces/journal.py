"""The journal of a file: which pieces are on the disk and what they hash to.

A record has 44 bytes, ``piece:u32 | size:u32 | sha256:32 | crc32 of the former 40:u32``, big endian. Records are only
appended, and only after the piece's bytes are durable. What follows a torn or wrong record is not read.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from pantala_protocol.ranges import MAX_PIECE

_BODY = struct.Struct(">II32s")
_CRC = struct.Struct(">I")
RECORD_SIZE = _BODY.size + _CRC.size


class Record(NamedTuple):
    """One piece that was made durable."""

    piece: int
    size: int
    sha256: bytes


def encode(record: Record) -> bytes:
    """Write a record."""
    body = _BODY.pack(*record)
    return body + _CRC.pack(zlib.crc32(body))


def decode(data: bytes) -> Iterator[Record]:
    """Read records up to the first that is torn or wrong."""
    for start in range(0, len(data) - RECORD_SIZE + 1, RECORD_SIZE):
        body = data[start : start + _BODY.size]
        (crc,) = _CRC.unpack_from(data, start + _BODY.size)
        if zlib.crc32(body) != crc:
            return
        record = Record(*_BODY.unpack(body))
        if record.piece > MAX_PIECE:
            return
        yield record
