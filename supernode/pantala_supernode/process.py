"""The process ``pantala-supernode``: reads its settings, and serves until a signal."""

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import NoReturn

from pantala_pieces.errors import StoreError
from pantala_process import lifecycle, logs
from pantala_process.lifecycle import Stop
from pantala_process.settings import SettingsError
from pantala_supernode.app import serving
from pantala_supernode.errors import SupernodeError
from pantala_supernode.settings import Settings, parse


def main() -> None:
    run(lifecycle.settings("pantala-supernode", _settings))


def _settings(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    found = parse(arguments, environment)
    if not (found.api_server or found.no_auth or found.dragonfly):  # Dragonfly's clients need no token
        raise SettingsError(
            "No token can be verified, because the API server is not known outside of a pod. Give its URL as "
            "--api-server, or add --no-auth on loopback addresses to serve all clients without a token."
        )
    return found


def run(settings: Settings) -> NoReturn:
    """Run a supernode until SIGTERM, then until its tasks have moved. A second SIGTERM, or SIGINT, ends it at once."""
    logs.configure(settings.log_level)

    async def life(stop: Stop) -> None:
        async with AsyncExitStack() as stack:
            # The start may wait long for its certificate, and has no task to hand over. So a signal ends it.
            app = await lifecycle.until(stop.asked, stack.enter_async_context(serving(settings)))
            if app is not None:
                await app.until(stop.asked.wait())
                await app.until(app.handover.wait(stop.at_once))

    lifecycle.run("pantala-supernode", life, failures=(OSError, StoreError, SupernodeError))
