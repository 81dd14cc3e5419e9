"""The process ``pantala-supernode``: reads its settings, and serves until a signal."""

import gc
from typing import NoReturn

from pantala_pieces.errors import StoreError
from pantala_process import lifecycle, logs
from pantala_process.lifecycle import Stop
from pantala_process.listening import allow_files
from pantala_supernode.app import serving
from pantala_supernode.errors import SupernodeError
from pantala_supernode.settings import Settings, parse

_GARBAGE = (50_000, 20, 20)
"""Thresholds for Python's garbage collector. Exchanges leave few cycles. With the default threshold of 700 objects, the
collector took a fifth of the CPU time at 500 peers."""


def main() -> None:
    run(lifecycle.settings("pantala-supernode", parse))


def run(settings: Settings) -> NoReturn:
    """Run a supernode until SIGTERM and until its tasks have moved. A second SIGTERM, or SIGINT, ends it at once."""
    logs.configure()
    allow_files()
    gc.freeze()  # the collector need not look at the imported modules, which stay
    gc.set_threshold(*_GARBAGE)

    async def life(stop: Stop) -> None:
        async with serving(settings) as app:
            await app.until(stop.asked.wait())
            await app.until(app.handover.wait(stop.at_once))

    lifecycle.run("pantala-supernode", life, failures=(OSError, StoreError, SupernodeError))
