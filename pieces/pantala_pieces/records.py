"""Small records on the disk: JSON objects whose last member is a checksum, in regular files only.

A record is ``{..., "checksum": "crc32:<8 hex>"}``. The checksum is of the record without this member. The previous
version can read the record, because it ignores members that it does not know.

The previous version wrote no checksum. Its records are read if they are exactly what this version would write without a
checksum. So a record with a damaged checksum never looks like a record of the previous version.
"""

import errno
import os
import re
import stat
import zlib
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from pantala_pieces.descriptor import opened
from pantala_pieces.errors import LOST
from pantala_pieces.writing import write_atomically

MAX_RECORD: Final = 16 * 1024 * 1024
"""The largest record in bytes."""

_LOST = LOST - {errno.ENOENT} | {errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.ENODEV, errno.ENOTDIR}
"""These errors mean that the record is damaged, or that something else has its name."""
_CHECKSUM = re.compile(rb'(,?)"checksum":"crc32:([0-9a-f]{8})"\}')
_CHECKSUM_SIZE = len(b',"checksum":"crc32:01234567"}')
_T = TypeVar("_T")


class RecordError(ValueError):
    """A record is damaged, or something other than a regular file has its name."""


def seal(body: bytes) -> bytes:
    """Add the checksum to ``body``, which is a JSON object without blanks at its end."""
    comma = b"" if body == b"{}" else b","
    return b'%b%b"checksum":"crc32:%08x"}' % (body[:-1], comma, zlib.crc32(body))


def decode(content: bytes, kind: type[_T]) -> _T:
    """Read a record. Raises :class:`RecordError`."""
    found = _CHECKSUM.search(content, max(0, len(content) - _CHECKSUM_SIZE))
    sealed = found is not None and found.end() == len(content)
    if found is not None and sealed:
        body = content[: found.start()] + b"}"
        if zlib.crc32(body) != int(found[2], 16):
            raise RecordError("its checksum is wrong")
    else:
        body = content
    try:
        value = msgspec.json.decode(body, type=kind)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"it is not valid: {error}") from None
    if not sealed and msgspec.json.encode(value) != content:
        raise RecordError("it has no valid checksum")
    return value


def load(path: Path, kind: type[_T]) -> _T:
    """Read the record at ``path``. Raises :class:`FileNotFoundError`, :class:`RecordError` and :class:`OSError`."""
    try:
        return decode(read_regular(path, MAX_RECORD), kind)
    except OSError as error:
        if error.errno not in _LOST:
            raise
        raise RecordError(f"it cannot be read: {error.strerror}") from error


def store(path: Path, value: object, *, durable: bool = True) -> None:
    """Replace the record at ``path``. Raises :class:`pantala_pieces.errors.StoreError`."""
    write_atomically(path, seal(msgspec.json.encode(value)), durable=durable)


def load_pair(path: Path, kind: type[_T]) -> _T:
    """Read a record of :func:`store_pair`, or its copy if the record cannot be read. Raises as :func:`load`."""
    try:
        return load(path, kind)
    except (RecordError, FileNotFoundError, PermissionError) as error:
        try:
            return load(copy_of(path), kind)
        except (RecordError, FileNotFoundError):
            raise error from None


def store_pair(path: Path, value: object) -> None:
    """Replace the record at ``path``, and then its copy. Use this for a record that more than one task needs.

    Raises :class:`pantala_pieces.errors.StoreError`.
    """
    store(path, value)
    store(copy_of(path), value)


def is_intact(path: Path, kind: type[object]) -> bool:
    """True if a record of :func:`store_pair` and its copy are as they were stored, with checksums."""
    try:
        contents = {read_regular(name, MAX_RECORD) for name in (path, copy_of(path))}
        return all(seal(msgspec.json.encode(decode(content, kind))) == content for content in contents)
    except (OSError, RecordError):
        return False


def copy_of(path: Path) -> Path:
    """The path of the copy of a record."""
    return path.with_name(f"{path.name}.copy")


def read_regular(path: Path, limit: int) -> bytes:
    """The content of a regular file. Raises :class:`RecordError` for anything else, and :class:`OSError`."""
    with opened(path) as fd:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise RecordError("it is not a regular file")
        if status.st_size > limit:
            raise RecordError(f"it has {status.st_size} bytes, more than {limit}")
        parts = []
        while chunk := os.read(fd, limit):
            parts.append(chunk)
        return b"".join(parts)


def is_regular(path: Path) -> bool:
    """True if ``path`` is a regular file, or is missing. Raises :class:`OSError`."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except FileNotFoundError:
        return True
