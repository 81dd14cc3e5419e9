"""What can go wrong with pieces on a disk.

::

    StoreError          the disk refused; ``errno`` of the cause says how
    └── StoreFullError  there is no room (ENOSPC, EDQUOT)
    PieceMissingError   the piece is not held verified
"""

from __future__ import annotations

import errno


class StoreError(Exception):
    """The disk refused an operation; the cause is the :class:`OSError`."""


class StoreFullError(StoreError):
    """There is no room left, in bytes, inodes or quota."""


class PieceMissingError(LookupError):
    """The piece is not held, or not verified since this process began."""


_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def from_os_error(error: OSError, what: str) -> StoreError:
    """Translate a refusal of the disk; ``what`` names the operation and its object."""
    kind = StoreFullError if error.errno in _FULL else StoreError
    return kind(f"{what}: {error.strerror or error}")
