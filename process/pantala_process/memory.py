"""Returns freed memory to the system. Without it, the C library keeps the memory.

Blocks of a few MiB come and go in several threads. The C library keeps the gaps between them for later blocks. After
many files at once, these gaps take more memory than everything else in the process.
"""

import asyncio
import contextlib
import ctypes

_INTERVAL = 60.0
"""Seconds between two calls. One call takes some milliseconds, if there is much to return."""


def trim() -> None:
    """Return free memory to the system. Does nothing with a C library that cannot do that."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


async def keep_trimmed() -> None:
    """Return free memory to the system once a minute, until cancelled."""
    while True:
        await asyncio.sleep(_INTERVAL)
        trim()
