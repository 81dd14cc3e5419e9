"""Opens files at whose paths other programs may have put something else, such as a link or a named pipe."""

import errno
import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal

SAFE: Final = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
"""A symbolic link is not followed, and a named pipe with the file's name does not block the thread."""


@contextmanager
def opened(path: Path | str, flags: int = os.O_RDONLY, *, directory: int | None = None) -> Iterator[int]:
    """The descriptor of a file, inside one ``with`` block. Raises :class:`OSError`."""
    fd = os.open(path, flags | SAFE, 0o600, dir_fd=directory)
    try:
        yield fd
    finally:
        os.close(fd)


class _Opened:
    """One opening of the file, with its users. Each use is one ``with`` block."""

    __slots__ = ("fd", "lock", "outdated", "users")

    def __init__(self, fd: int, lock: threading.Lock) -> None:
        self.fd = fd
        self.lock = lock
        self.users = 0
        self.outdated = False

    def __enter__(self) -> int:
        return self.fd

    def __exit__(self, *_: object) -> Literal[False]:
        with self.lock:
            self.users -= 1
            if self.outdated and not self.users:
                os.close(self.fd)
        return False


class Descriptor:
    """The file descriptor of ``path``, for any number of threads. It is opened on its first use.

    ``flags`` returns the flags for each opening. A descriptor is never closed while a thread uses it, because another
    file could get its number. At most one unused descriptor is open, because an open descriptor of a deleted file keeps
    its room on the disk.
    """

    def __init__(self, path: Path, flags: Callable[[], int]) -> None:
        self._path = path
        self._flags = flags
        self._lock = threading.Lock()
        self._opened: _Opened | None = None
        self._ended = False

    def using(self, more: int = 0) -> _Opened:
        """Use the descriptor inside one ``with`` block. Raises :class:`OSError`, also after :meth:`end`.

        ``more``: further flags if the file must be opened.
        The descriptor is in use from the call on, so call this only in a ``with`` statement.
        """
        with self._lock:
            opened = self._opened or self._open(more)
            opened.users += 1
        return opened

    def close(self) -> None:
        """Close the descriptor now, or after its last use. A later use opens it again."""
        with self._lock:
            opened, self._opened = self._opened, None
            if opened is not None:
                opened.outdated = True
                if not opened.users:
                    os.close(opened.fd)

    def end(self) -> None:
        """Close the descriptor and refuse later uses, because the file at ``path`` is deleted or replaced."""
        with self._lock:
            self._ended = True
        self.close()

    def _open(self, more: int) -> _Opened:
        if self._ended:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self._path))
        fd = os.open(self._path, self._flags() | more | SAFE, 0o600)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise OSError(errno.ENXIO, "it is not a regular file", str(self._path))
        self._opened = _Opened(fd, self._lock)
        return self._opened
