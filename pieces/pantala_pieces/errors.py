"""The errors of pieces on a disk.

::

    StoreError          the disk failed; the cause is the OSError
    ├── StoreFullError  the disk is full (ENOSPC, EDQUOT)
    └── FilesExhaustedError  no file or connection can be opened (EMFILE, ENFILE)
    PieceMissingError   the piece is not held, or not verified
"""

import contextlib
import errno
import os
from collections.abc import Iterator

LOST = frozenset({errno.EIO, errno.EBADMSG, errno.EUCLEAN, errno.ENOENT})
"""These errors mean that the disk has lost the bytes."""

DENIED = frozenset({errno.EACCES, errno.EPERM})
"""These errors mean that this process has no access to the file."""

EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE})
"""These errors mean that no further file can be opened now."""


class StoreError(Exception):
    """An operation of the disk failed."""

    @property
    def lost(self) -> bool:
        """True if the disk has lost the bytes, or denies them to this process. All other errors may be temporary."""
        return self.denied or (isinstance(self.__cause__, OSError) and self.__cause__.errno in LOST)

    @property
    def denied(self) -> bool:
        """True if this process has no access to the bytes. They may be right."""
        return isinstance(self.__cause__, OSError) and self.__cause__.errno in DENIED


class StoreFullError(StoreError):
    """The disk has no room left, in bytes, inodes or quota."""

    def __init__(self, message: str, why: str = "no room is left") -> None:
        """``why``: the part of the message that names no path."""
        super().__init__(message)
        self.why = why


class FilesExhaustedError(StoreError):
    """The process or the node has no file handle left, so it can open no file and no connection."""


class PieceMissingError(LookupError):
    """The piece is not on the disk, or this process has not verified it."""


@contextlib.contextmanager
def store_errors(operation: str, advice: str = "") -> Iterator[None]:
    """Raise :class:`StoreError` for an :class:`OSError` of the block. Its message starts with ``operation``.

    ``advice``: what to do if the kind of the error does not show it. Without it, the caller says what to do.
    """
    try:
        yield
    except OSError as error:
        raise store_error(operation, error, advice) from error


def store_error(operation: str, error: OSError, advice: str = "") -> StoreError:
    """The :class:`StoreError` for a failed operation. For each piece, this is faster than :func:`store_errors`."""
    why = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreFullError(f"cannot {operation}: {why}{advice and '. Free space there'}", why)
    kind = FilesExhaustedError if error.errno in EXHAUSTED else StoreError
    return kind(f"cannot {operation}: {why}{_advice(error) or (advice and f'. {advice}')}")


def _advice(error: OSError) -> str:
    """The next step for an error that stays until someone acts, as the end of a message. Empty for other errors."""
    if error.errno in DENIED:
        return f". Give the user {os.geteuid()}, as which this process runs, access to it"
    if error.errno in LOST - {errno.ENOENT}:
        return ". The disk is damaged. Check it with fsck"
    return ". Mount the disk so that this process can write to it" if error.errno == errno.EROFS else ""
