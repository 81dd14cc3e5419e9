"""The errors of pieces on a disk.

::

    StoreError          the disk failed; the cause is the OSError
    ├── StoreFullError  the disk is full (ENOSPC, EDQUOT)
    └── FilesExhaustedError  no file or connection can be opened (EMFILE, ENFILE)
    PieceMissingError   the piece is not held, or not verified
"""

import contextlib
import errno
from collections.abc import Iterator


class StoreError(Exception):
    """An operation of the disk failed."""


class StoreFullError(StoreError):
    """The disk has no room left, in bytes, inodes or quota."""


class FilesExhaustedError(StoreError):
    """The process or the node has no file handle left, so it can open no file and no connection."""


class PieceMissingError(LookupError):
    """The piece is not on the disk, or this process has not verified it."""


LOST = frozenset({errno.EIO, errno.EBADMSG, errno.EUCLEAN, errno.ENOENT})
"""These errors mean that the disk has lost the bytes. Other errors may pass by themselves."""
_KINDS = {
    errno.ENOSPC: StoreFullError,
    errno.EDQUOT: StoreFullError,
    errno.EMFILE: FilesExhaustedError,
    errno.ENFILE: FilesExhaustedError,
}


@contextlib.contextmanager
def store_errors(operation: str) -> Iterator[None]:
    """Raise :class:`StoreError` for an :class:`OSError` of the block. Its message starts with ``operation``."""
    try:
        yield
    except OSError as error:
        raise store_error(operation, error) from error


def store_error(operation: str, error: OSError) -> StoreError:
    """The :class:`StoreError` for a failed operation. A path that runs for each piece calls this in its ``except``."""
    kind = _KINDS.get(error.errno or 0, StoreError)
    return kind(f"cannot {operation}: {error.strerror or error}")
