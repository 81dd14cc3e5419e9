"""``pantala-runtime``: read the flags, run until SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import structlog

from pantala_runtime import logs
from pantala_runtime.app import build
from pantala_runtime.errors import HelperError, SettingsError
from pantala_runtime.settings import Settings, parse


def main() -> None:
    """Run a helper. Exit code 0 after a signal, 1 if it cannot go on, 2 for wrong flags."""
    try:
        settings = parse(sys.argv[1:], os.environ)
    except SettingsError as error:
        print(f"pantala-runtime: {error}", file=sys.stderr)
        sys.exit(2)
    logs.configure()
    try:
        asyncio.run(_run(settings))
    except HelperError as error:
        structlog.get_logger().error("the runtime helper cannot go on", error=str(error))
        sys.exit(1)


async def _run(settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await build(settings).run(stop)
