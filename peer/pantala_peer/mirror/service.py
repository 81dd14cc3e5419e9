"""Makes the objects of one node's mirror and opens its port."""

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import structlog

from pantala_peer.cache.pieces import PieceCache
from pantala_peer.download.jobs import PieceWaiters
from pantala_peer.mirror.blobs import CachedBlobs
from pantala_peer.mirror.demand import BlobDemand
from pantala_peer.mirror.grants import PullGrants
from pantala_peer.mirror.manifests import CachedManifests
from pantala_peer.mirror.rights import ReadRights
from pantala_peer.mirror.server import MirrorRules, MirrorServer
from pantala_peer.mirror.supernode import SupernodeRegistries
from pantala_peer.sync.supernodes import SupernodeSessions
from pantala_peer.tasks.room import BlobRoom
from pantala_process.entrance.server import accepting, runner_of
from pantala_process.flight import cancel_all
from pantala_process.listening import file_limit, listening
from pantala_process.settings import ListenAddress, SettingsError
from pantala_process.tls.contexts import TLSContexts
from pantala_protocol.rules.rights import Rights

log = structlog.get_logger()

_SHARE = 0.25
"""Connections of containerd may use this fraction of the limit of open files."""

_RETRY = 10.0
"""Seconds between two attempts to begin."""

_GRACE = 1.0
"""Seconds for running answers when the peer stops. containerd gets the remaining bytes from the registry."""


class MirrorService:
    """One node's mirror. ``address`` is the mirror's URL for containerd. Empty: this machine and the mirror's port."""

    def __init__(
        self,
        supernodes: SupernodeSessions,
        cache: PieceCache,
        waiters: PieceWaiters,
        rules: MirrorRules,
        room: BlobRoom,
        *,
        node: str,
        address: str,
        token_file: Path | None,
        tls: TLSContexts | None = None,
    ) -> None:
        self._supernode = SupernodeRegistries(supernodes.answering, node, token_file=token_file, tls=tls)
        self._rights = ReadRights(self._supernode, Rights(secrets.token_bytes(32)), time.monotonic)
        self.demand = BlobDemand(room, supernodes.want)
        blobs = CachedBlobs(
            cache, waiters, self.demand, self._rights, answering=supernodes.answering, deadlines=rules.deadlines
        )
        self.grants = PullGrants(lambda: secrets.token_urlsafe(32))
        self._manifests = CachedManifests(self._supernode, self._rights, time.monotonic)
        self._rules = rules
        self._address = address
        self._host = "127.0.0.1"
        self.port = 0
        """The port of the mirror; 0 while it does not listen."""
        self._problem = "the peer has no mirror, so images are pulled from their registries; set --mirror-listen"
        self.server = MirrorServer(blobs, self._manifests, self._rights, rules, self.grants, clock=time.monotonic)

    def url(self) -> str | None:
        """The URL at which containerd reaches the mirror, while it listens."""
        return (self._address or f"http://{self._host}:{self.port}") if self.port else None

    def problem(self) -> str:
        """Why the mirror does not listen."""
        return self._problem

    def reachable_port(self) -> int:
        """The port of :meth:`url`; 0 while the mirror does not listen."""
        return (urlsplit(self._address).port or self.port) if self.port else 0

    @contextlib.asynccontextmanager
    async def serving(self, address: ListenAddress) -> AsyncIterator[None]:
        """Serve requests while the context is entered. While the port or the token cannot be used, try again."""
        tried = asyncio.Event()
        keeping = asyncio.create_task(self._keep_serving(address, tried))
        keeping.add_done_callback(lambda _: tried.set())
        try:
            await tried.wait()
            if keeping.done():
                keeping.result()  # a bug ended it
            yield
        finally:
            await cancel_all([keeping])

    async def _keep_serving(self, address: ListenAddress, tried: asyncio.Event) -> None:
        while True:
            try:
                async with self._listening(address):
                    log.info("serving the registry mirror", port=self.port)
                    tried.set()
                    await asyncio.Event().wait()
            except (OSError, SettingsError) as error:
                log.warning("the mirror cannot begin; trying again", error=str(error))
                again = f"The peer tries again every {_RETRY:g} s"
                self._problem = f"{error}. {again}. Until then, images are pulled from their registries"
            tried.set()
            await asyncio.sleep(_RETRY)

    @contextlib.asynccontextmanager
    async def _listening(self, address: ListenAddress) -> AsyncIterator[None]:
        """Serve requests while the context is entered. Raises :class:`SettingsError` if the token cannot be read.

        If a client disconnects, its request and the demand for the blob end at once.
        """
        token = await asyncio.to_thread(_token, self._rules.token_file)
        runner = runner_of(self.server.application(token), grace=_GRACE, lingering=0.0, handler_cancellation=True)
        with listening(address, "--mirror-listen") as sockets:
            async with (
                self._supernode.connected(),
                contextlib.aclosing(self._manifests),
                contextlib.aclosing(self._rights),
            ):
                await runner.setup()
                try:
                    async with accepting(runner, sockets, most=int(file_limit() * _SHARE)):
                        self._host = "localhost" if address.host == "::1" else "127.0.0.1"
                        self.port = int(sockets[0].getsockname()[1])
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
        what = getattr(error, "strerror", None) or "it is not ASCII text"
        raise SettingsError(f"the mirror's token in {file} cannot be read: {what}. Check the file") from error
    if not token:
        raise SettingsError(f"the mirror's token in {file} is empty; run pantala-peer configure")
    return token
