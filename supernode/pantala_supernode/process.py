"""``pantala-supernode``."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys

from pantala_pieces.errors import StoreError
from pantala_supernode.app import serving
from pantala_supernode.errors import SupernodeError
from pantala_supernode.http.site import allow_files
from pantala_supernode.logs import configure
from pantala_supernode.settings import Settings

_GARBAGE = (50_000, 20, 20)
"""Objects between two searches for cycles. Exchanges leave few, and looking through all that is known of 500 clients
for them each 700 objects, as is usual, took a fifth of the time."""


async def _run(settings: Settings) -> None:
    stop, at_once = asyncio.Event(), asyncio.Event()

    def terminate() -> None:
        (at_once if stop.is_set() else stop).set()

    def interrupt() -> None:
        stop.set()
        at_once.set()

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, terminate)
    loop.add_signal_handler(signal.SIGINT, interrupt)
    async with serving(settings) as app:
        await app.until(stop.wait())
        await app.until(app.handover.wait(at_once))


def main(settings: Settings) -> None:
    """Run a supernode until SIGTERM; a second one, or SIGINT, ends it before its tasks have moved.

    Exits with 1 if it cannot start.
    """
    configure()
    allow_files()
    gc.freeze()  # what was imported stays
    gc.set_threshold(*_GARBAGE)
    try:
        asyncio.run(_run(settings))
    except (OSError, StoreError, SupernodeError) as error:
        sys.exit(f"pantala-supernode: {error}")
