"""Makes the objects of the runtime helper and serves its socket."""

import asyncio
import contextlib
import os
import socket
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import structlog

from pantala_process import lifecycle, logs
from pantala_process.entrance.server import accepting, runner_of
from pantala_process.lifecycle import Stop
from pantala_process.settings import SettingsError
from pantala_runtime.api import HelperAPI
from pantala_runtime.containerd import Containerd
from pantala_runtime.pulls import Pulls
from pantala_runtime.settings import Settings, parse

log = structlog.get_logger()

_MOST = 64
"""The most connections at the socket. Only the node's peer connects."""


@dataclass(slots=True)
class HelperApp:
    """The runtime helper of one node."""

    settings: Settings
    containerd: Containerd
    pulls: Pulls
    api: HelperAPI

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until ``stop`` is set. Raises :class:`SettingsError` if the socket cannot be created."""
        with _listening(self.settings.listen) as listener:
            async with self.containerd:
                # A client that disconnects cancels its pull.
                runner = runner_of(self.api.application(), grace=self.settings.grace, handler_cancellation=True)
                await runner.setup()
                try:
                    async with accepting(runner, [listener], most=_MOST):
                        log.info("listening", socket=str(self.settings.listen), runtime=self.settings.runtime)
                        await stop.wait()
                    log.info("leaving")
                finally:
                    await self.pulls.close()
                    await runner.cleanup()


def main() -> None:
    """Run a helper until SIGTERM or SIGINT."""
    settings = lifecycle.settings("pantala-runtime", parse)
    logs.configure(settings.log_level)

    async def life(stop: Stop) -> None:
        await build(settings).run(stop.asked)

    lifecycle.run("pantala-runtime", life, failures=(SettingsError,))


def build(settings: Settings) -> HelperApp:
    """Make the objects of a helper. They open no socket before :meth:`HelperApp.run`."""
    containerd = Containerd(settings.runtime)
    pulls = Pulls(containerd, time.monotonic)
    api = HelperAPI(containerd, pulls, settings.image_filesystem, settings.content)
    return HelperApp(settings, containerd, pulls, api)


@contextlib.contextmanager
def _listening(path: Path) -> Iterator[socket.socket]:
    """Listen at ``path``, with permissions only for the process's user. An old socket at ``path`` is replaced."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISSOCK(path.lstat().st_mode):
                raise SettingsError(f"--listen: {path} is not a socket. Remove it, or choose another path.")
            path.unlink()
        former = os.umask(0o177)
        try:
            listener.bind(str(path))
        finally:
            os.umask(former)
        listener.setblocking(False)
        yield listener
        path.unlink(missing_ok=True)
    except OSError as error:
        raise SettingsError(f"--listen: {path} cannot be created: {error.strerror}. Check its directory.") from error
    finally:
        listener.close()
