"""Writes bytes to files, replaces small files so that they survive a crash, and locks directories."""

import contextlib
import errno
import fcntl
import os
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import structlog

from pantala_pieces.descriptor import opened
from pantala_pieces.errors import StoreError, store_errors

_log = structlog.get_logger(__name__)


def write_bytes(fd: int, data: bytes | bytearray | memoryview, offset: int) -> None:
    """Write all bytes at an offset. Raises :class:`OSError`."""
    view = memoryview(data)
    while view:  # a write may be short, especially on a full disk
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written


def copy_bytes(source: int, target: int, offset: int, size: int) -> None:
    """Copy bytes to the same offset of another file. Raises :class:`OSError`.

    Some filesystems do not copy, but let both files share the same blocks.
    """
    end = offset + size
    while offset < end:
        copied = os.copy_file_range(source, target, end - offset, offset, offset)
        if not copied:
            raise OSError(errno.EIO, "the file is too short")
        offset += copied


def write_atomically(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Replace a file. After a crash, it has either the old or the new content. Raises :class:`StoreError`.

    Without ``durable``, this is true for a crash of the process. A crash of the machine may damage the file.
    """
    temporary = path.with_name(f".{path.name}.new")
    with store_errors(f"write {path}"):
        clear_name(temporary)
        with opened(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as fd:
            try:
                write_bytes(fd, content, 0)
                if durable:
                    os.fsync(fd)
            except OSError:
                temporary.unlink()
                raise
        if path.is_dir() and not path.is_symlink():
            set_aside(path)
        temporary.replace(path)
        if durable:
            sync_directory(path.parent)


def clear_name(path: Path) -> None:
    """Make a name free: remove a file, or rename a directory. Raises :class:`OSError`."""
    try:
        path.unlink()
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno not in (errno.EISDIR, errno.EPERM):
            raise
        set_aside(path)


def make_directory(path: Path, mode: int) -> None:
    """Make a directory and those above it, unless it exists. Raises :class:`OSError`."""
    try:
        path.mkdir(mode=mode, parents=True, exist_ok=True)
    except FileExistsError as error:
        raise OSError(errno.ENOTDIR, "it is a file and not a directory") from error


def set_aside(path: Path) -> None:
    """Rename a file or directory of another program, because Pantala needs its name. Raises :class:`OSError`."""
    path.rename(path.with_name(f"{path.name}.foreign-{secrets.token_hex(4)}"))


@contextlib.asynccontextmanager
async def alone(directory: Path, process: str, flag: str) -> AsyncIterator[None]:
    """Lock ``directory`` while the block runs, because two processes would damage each other's journals.

    Raises :class:`StoreError` if another ``process`` uses it. ``flag`` names the directory of a process.
    """
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            advice = f"Stop that {process}, or give each its own {flag}"
            raise StoreError(f"cannot use {directory}: another {process} uses it. {advice}") from error
        except OSError as error:  # some file systems have no locks
            text = "cannot lock a directory; make sure that no other process uses it"
            _log.warning(text, directory=str(directory), error=error.strerror)
        yield
    finally:
        os.close(fd)


def sync_directory(directory: Path) -> None:
    """Sync a directory, so that new and removed names in it outlast a crash. Raises :class:`OSError`."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
