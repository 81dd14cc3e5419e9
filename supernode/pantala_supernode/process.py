"""The process ``pantala-supernode``: reads its settings, and serves until a signal."""

import asyncio
from typing import NoReturn

from pantala_pieces.errors import StoreError
from pantala_process import lifecycle, logs
from pantala_process.lifecycle import Stop
from pantala_supernode.app import serving
from pantala_supernode.errors import SupernodeError
from pantala_supernode.settings import Settings, parse


def main() -> None:
    run(lifecycle.settings("pantala-supernode", parse))


def run(settings: Settings) -> NoReturn:
    """Run a supernode until SIGTERM, then until its tasks have moved. A second SIGTERM, or SIGINT, ends it at once."""
    logs.configure(settings.log_level)

    async def life(stop: Stop) -> None:
        start = asyncio.create_task(_cancel(stop, asyncio.current_task()))
        try:
            async with serving(settings) as app:
                start.cancel()
                await app.until(stop.asked.wait())
                await app.until(app.handover.wait(stop.at_once))
        except asyncio.CancelledError:
            if not start.done() or start.cancelled():
                raise

    lifecycle.run("pantala-supernode", life, failures=(OSError, StoreError, SupernodeError))


async def _cancel(stop: Stop, start: "asyncio.Task[None] | None") -> None:
    """Cancel the start at a signal. The start may wait long for its certificate, and has no task to hand over."""
    await stop.asked.wait()
    if start is not None:
        start.cancel()
