"""The mirror, composed, and where it listens."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from urllib.parse import urlsplit

from aiohttp import web

from pantala_peer.download.jobs import PieceWaiters
from pantala_peer.mirror.blobs import CachedBlobs, Lookup
from pantala_peer.mirror.grants import Grants
from pantala_peer.mirror.manifests import CachedManifests
from pantala_peer.mirror.permissions import Permissions
from pantala_peer.mirror.probe import Sighting
from pantala_peer.mirror.server import Mirror, Rules
from pantala_peer.mirror.supernode import SupernodeManifests
from pantala_peer.mirror.wants import Wants
from pantala_peer.sync.supernodes import SupernodeSessions
from pantala_peer.tasks.room import BlobRoom
from pantala_process.settings import SettingsError
from pantala_protocol.sync import Wanted

_GRACE = 1.0
"""Seconds that bodies get at the end; containerd has the rest from the registry."""


class MirrorService:
    """One node's mirror."""

    def __init__(
        self,
        supernodes: SupernodeSessions,
        lookup: Lookup,
        arrivals: PieceWaiters,
        rules: Rules,
        room: BlobRoom,
        *,
        address: str,
        token_file: Path | None,
    ) -> None:
        """``address``: the URL at which containerd reaches the mirror, if not at its port on this node."""

        def want(name: str, wanted: Wanted | None) -> None:
            room.demand(name, demanded=wanted is not None)
            supernodes.want(name, wanted)

        clock: Callable[[], float] = time.monotonic
        permissions = Permissions(secrets.token_bytes(32))
        self.wants = wants = Wants(want)
        """What the node waits for, of whomever."""
        self.blobs = blobs = CachedBlobs(
            lookup,
            arrivals,
            wants,
            answers=lambda name: supernodes.answering(name) is not None,
            deadlines=rules.deadlines,
        )
        self.grants = Grants(lambda: secrets.token_urlsafe(32))
        """The pulls that run by order."""
        self._asking = SupernodeManifests(supernodes.answering, token_file=token_file)
        self._manifests = CachedManifests(self._asking, permissions, clock)
        self._rules = rules
        self._address = address
        self.port = 0
        """Where it listens; 0: it does not."""
        self.mirror = Mirror(blobs, self._manifests, permissions, rules, self.grants, clock=clock, wall=time.time)

    def url(self) -> str | None:
        """The URL at which containerd reaches the mirror. ``None``: it does not listen."""
        return (self._address or f"http://127.0.0.1:{self.port}") if self.port else None

    def reachable_port(self) -> int:
        """The port of :meth:`url`. 0: it does not listen."""
        return (urlsplit(self._address).port or self.port) if self.port else 0

    def sighting(self) -> Sighting | None:
        """The last probe's."""
        return self.mirror.sighting

    @contextlib.asynccontextmanager
    async def serving(self, host: str, port: int) -> AsyncIterator[None]:
        """Serve while the context is entered.

        Who goes away is noticed at once: what only it waited for is not wanted any more. Raises
        :class:`SettingsError` if the token cannot be read.
        """
        self.mirror.token = await asyncio.to_thread(_token, self._rules.token_file)
        application = web.Application()
        self.mirror.add_routes(application.router)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=_GRACE, handler_cancellation=True)
        async with self._asking, contextlib.aclosing(self._manifests):
            await runner.setup()
            try:
                await web.TCPSite(runner, host, port).start()
                self.port = runner.addresses[0][1]
                yield
            finally:
                self.port = 0
                await runner.cleanup()


def _token(file: Path | None) -> str:
    if file is None:
        return ""
    try:
        token = file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"the mirror's token in {file} cannot be read: {error}") from error
    if not token:
        raise SettingsError(f"the mirror's token in {file} is empty; run pantala-peer configure")
    return token
