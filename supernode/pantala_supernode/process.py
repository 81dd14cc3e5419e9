"""``pantala-supernode``: read the settings and serve until a signal."""

import gc
from typing import NoReturn

from pantala_pieces.errors import StoreError
from pantala_process import lifecycle, logs
from pantala_process.lifecycle import Stop
from pantala_supernode.app import serving
from pantala_supernode.errors import SupernodeError
from pantala_supernode.http.site import allow_files
from pantala_supernode.settings import Settings, parse

_GARBAGE = (50_000, 20, 20)
"""Objects between two searches for cycles. Exchanges leave few cycles. With the default of 700 objects, the search
through the state of 500 peers took a fifth of the time."""


def main() -> None:
    run(lifecycle.settings("pantala-supernode", parse))


def run(settings: Settings) -> NoReturn:
    """Run a supernode until SIGTERM. A second one, or SIGINT, ends it before its tasks have moved."""
    logs.configure()
    allow_files()
    gc.freeze()  # the imported modules stay
    gc.set_threshold(*_GARBAGE)

    async def life(stop: Stop) -> None:
        async with serving(settings) as app:
            await app.until(stop.asked.wait())
            await app.until(app.handover.wait(stop.at_once))

    lifecycle.run("pantala-supernode", life, failures=(OSError, StoreError, SupernodeError))
