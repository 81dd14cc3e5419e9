"""Returns freed memory to the system, because the C library keeps it.

Several threads allocate and free blocks of a few MiB. The C library keeps the gaps between them for later blocks. After
many files at once, these gaps take more memory than everything else in the process.
"""

import asyncio
import contextlib
import ctypes

_INTERVAL = 60.0
"""Seconds between two calls. A call that returns much memory takes some milliseconds."""


def trim() -> None:
    """Return free memory to the system. Does nothing with a C library that cannot do that."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


async def keep_trimmed() -> None:
    """Return free memory to the system once a minute, until cancelled."""
    while True:
        await asyncio.sleep(_INTERVAL)
        trim()
