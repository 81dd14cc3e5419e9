"""``pantala-peer``: read the flags, run until SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import structlog

from pantala_peer import logs
from pantala_peer.app import build
from pantala_peer.errors import PeerError, SettingsError
from pantala_peer.settings import Settings, parse
from pantala_pieces.errors import StoreError


def main() -> None:
    """Run a peer. Exit code 0 after a signal, 1 if it cannot go on, 2 for wrong flags."""
    try:
        settings = parse(sys.argv[1:], os.environ)
    except SettingsError as error:
        print(f"pantala-peer: {error}", file=sys.stderr)
        sys.exit(2)
    logs.configure()
    os.umask(0o022)
    try:
        asyncio.run(_run(settings))
    except (PeerError, StoreError, OSError) as error:
        structlog.get_logger().error("the peer cannot go on", error=str(error))
        sys.exit(1)


async def _run(settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await build(settings).run(stop)
