"""``pantala-operator``: read the settings, run until told to stop."""

from __future__ import annotations

import asyncio
import signal
import sys

import structlog

from pantala_operator import app, logs
from pantala_operator.errors import OperatorError, SettingsError
from pantala_operator.settings import Settings, load


def main() -> None:
    """Run the operator; the process ends with 0 when asked to, 1 when it cannot start, 2 for wrong flags."""
    try:
        settings = load(sys.argv[1:])
    except SettingsError as error:
        print(f"pantala-operator: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    logs.configure()
    raise SystemExit(asyncio.run(_run(settings)))


async def _run(settings: Settings) -> int:
    running = asyncio.create_task(_build_and_run(settings))
    loop = asyncio.get_running_loop()
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, running.cancel)
    try:
        await running
    except asyncio.CancelledError:
        return 0
    except OperatorError as error:
        structlog.get_logger(__name__).error("The operator cannot run", error=str(error))
        return 1
    return 0


async def _build_and_run(settings: Settings) -> None:
    await (await app.build(settings)).run()
