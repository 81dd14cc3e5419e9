"""Writing to files: all of some bytes, and whole small files that survive a crash."""

import errno
import os
from pathlib import Path

from pantala_pieces.errors import store_errors


def write_bytes(fd: int, data: bytes | bytearray | memoryview, offset: int) -> None:
    """Write all bytes at an offset. Raises :class:`OSError`."""
    view = memoryview(data)
    while view:  # a write may be short, especially on a full disk
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written


def copy_bytes(source: int, target: int, offset: int, size: int) -> None:
    """Copy bytes to the same offset of another file. Raises :class:`OSError`.

    Some filesystems share the room of both instead.
    """
    end = offset + size
    while offset < end:
        copied = os.copy_file_range(source, target, end - offset, offset, offset)
        if not copied:
            raise OSError(errno.EIO, "the file is too short")
        offset += copied


def write_atomically(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Replace a file. After a crash it has the whole old or the whole new content. Raises :class:`StoreError`.

    Without ``durable``, that holds only if the process crashes. If the machine crashes, the file may be damaged.
    """
    temporary = path.with_name(f".{path.name}.new")
    with store_errors(f"write {path}"):
        with temporary.open("wb") as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
        if durable:
            sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Sync a directory, so that new and removed names in it outlast a crash. Raises :class:`OSError`."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
