"""The mirror's routes: ``GET`` and ``HEAD`` of ``/v2/``, manifests and blobs, for containerd alone.

It never hangs and never lies: 404 in time for what is not here, headers only once the first bytes are in hand, nothing
but verified bytes; a body that breaks ends with FIN, after which containerd asks for the rest with ``Range``.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import structlog
from aiohttp import web

from pantala_peer.containerd.hosts import HEADER
from pantala_peer.mirror import byterange, resource
from pantala_peer.mirror.breaker import Breaker
from pantala_peer.mirror.byterange import ByteRange, UnsatisfiableError
from pantala_peer.mirror.deadlines import Deadlines
from pantala_peer.mirror.document import Document
from pantala_peer.mirror.errors import MirrorError, SlowError
from pantala_peer.mirror.grants import CHALLENGE, Grant, Grants, is_ours
from pantala_peer.mirror.permissions import Permissions, Reach
from pantala_peer.mirror.ports import Blob, Blobs, Challenge, Hint, Manifests
from pantala_peer.mirror.probe import Sighting
from pantala_peer.mirror.resource import Repository

_VERSION = {"Docker-Distribution-API-Version": "registry/2.0"}

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Rules:
    """Whom the mirror serves, and what."""

    token_file: Path | None = None
    """With the token that ``hosts.toml`` has containerd show. None: anybody on the node is taken for containerd."""
    resolve: bool = False
    """Tags, too. Else each pull of a tag is authorised by the registry itself."""
    deadlines: Deadlines = field(default_factory=Deadlines)


@dataclass(slots=True)
class Counts:
    """What was done since the start."""

    manifests: int = 0
    blobs: int = 0
    """Whose body was sent, whole or the range that was asked for."""
    bytes: int = 0
    """Of blobs."""
    misses: int = 0
    """Answered 404: the registry is asked."""
    late: int = 0
    """Of the misses: given up after waiting."""
    broken: int = 0
    """Bodies that ended early: the registry is asked for the rest."""


class Mirror:
    """Serves containerd. ``clock`` tells monotonic seconds, ``wall`` seconds since the epoch."""

    def __init__(
        self,
        blobs: Blobs,
        manifests: Manifests,
        permissions: Permissions,
        rules: Rules,
        grants: Grants,
        *,
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self.counts = Counts()
        self.sighting: Sighting | None = None
        """The last probe's."""
        self.token = ""
        """What containerd shows; empty: nothing."""
        self._blobs = blobs
        self._manifests = manifests
        self._permissions = permissions
        self._rules = rules
        self._grants = grants
        self._breaker = Breaker()
        self._clock = clock
        self._wall = wall

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Take all paths: what is no registry's is 404 here, too."""
        router.add_route("*", "/{path:.*}", self.handle)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""
        if request.method not in ("GET", "HEAD"):
            return _error(405, "UNSUPPORTED", "this mirror is only read", Allow="GET, HEAD")
        try:
            asked = self._admit(request)
            if isinstance(asked, resource.Manifest):
                return await self._manifest(request, asked)
            if isinstance(asked, resource.Blob):
                return await self._blob(request, asked)
        except MirrorError as error:
            self.counts.misses += 1
            log.debug("not served", path=request.rel_url.raw_path[:512], why=str(error))
            return _error(404, "UNKNOWN", str(error))
        return web.json_response({}, headers=_VERSION)

    def _admit(self, request: web.Request) -> resource.Resource:
        """What is asked for, if it comes by our ``hosts.toml``.

        Without ``ns`` containerd takes us for the registry: to ask on would go round in circles.
        """
        path, names = request.rel_url.raw_path, request.query.getall("ns", [])
        shown = request.headers.get(HEADER, "")
        is_ours = len(names) == 1 and self._knows(shown)
        node = resource.probed_node(path)
        if node is not None:
            if is_ours or shown or not names:  # else it is the file's ``server``, which containerd asks last
                self.sighting = Sighting(node, in_force=is_ours, at=self._wall())
            raise MirrorError("it is the probe, which no registry has")
        if not is_ours:
            raise MirrorError("it does not come by this node's hosts.toml; run pantala-peer configure")
        return resource.parse(path, names[0])

    def _knows(self, shown: str) -> bool:
        expected = self.token.encode()
        return not expected or hmac.compare_digest(shown.encode("utf-8", "surrogateescape"), expected)

    # Manifests

    async def _manifest(self, request: web.Request, asked: resource.Manifest) -> web.Response:
        if asked.by_tag and not self._rules.resolve:
            raise MirrorError("tags are the registry's own to resolve")
        authorization = request.headers.get("Authorization", "")
        if not asked.by_tag and self._is_to_show(asked.repository, authorization):
            return _challenge(Challenge((CHALLENGE,)))
        grant = self._grant(asked.repository, authorization)
        if not self._manifests.holds(asked.repository, asked.reference, authorization):
            self._spare(asked.repository)
        try:
            async with asyncio.timeout(self._rules.deadlines.manifest):
                found = await self._manifests.get(
                    asked.repository, asked.reference, authorization, grant.key if grant else ""
                )
        except (TimeoutError, SlowError) as error:
            raise self._late(asked.repository, "the manifest") from error
        if isinstance(found, Challenge):
            return _challenge(found)
        self.counts.manifests += 1
        return _document(found, head=request.method == "HEAD")

    # Blobs

    async def _blob(self, request: web.Request, asked: resource.Blob) -> web.StreamResponse:
        authorization = request.headers.get("Authorization", "")
        if self._is_to_show(asked.repository, authorization):
            return _challenge(Challenge((CHALLENGE,)))
        grant = self._grant(asked.repository, authorization)
        reach = self._permissions.find(str(asked.repository), authorization, asked.digest, self._clock())
        if reach is None and request.method == "HEAD":
            # containerd 2.4 looks among blobs for a manifest that it was refused: a 404 here would be the last word.
            return await self._manifest(request, resource.Manifest(asked.repository, asked.digest))
        if reach is None or not reach.size:
            raise MirrorError(f"no manifest that names {asked.digest} was served to this client lately")
        headers = {
            **_VERSION,
            "Docker-Content-Digest": asked.digest,
            "Content-Type": "application/octet-stream",
            "Accept-Ranges": "bytes",
            "ETag": f'"{asked.digest}"',
        }
        try:
            part = _range(request, reach.size, headers["ETag"])
        except UnsatisfiableError as error:
            return _error(416, "RANGE_INVALID", str(error), **{"Content-Range": f"bytes */{reach.size}"})
        if not self._blobs.holds(asked.digest):
            self._spare(asked.repository)
        if request.method == "HEAD":
            return web.Response(headers={**headers, "Content-Length": str(reach.size)})
        response = web.StreamResponse(headers=headers)
        if part is not None:
            response.set_status(206)
            response.headers["Content-Range"] = f"bytes {part.start}-{part.end - 1}/{reach.size}"
        hint = Hint(asked.repository, reach.size, "" if grant else authorization, grant.key if grant else "")
        start, end = part or ByteRange(0, reach.size)
        async with self._blobs.open(asked.digest, hint, start) as blob:
            await self._send(request, response, asked, reach, _Body(blob, start, end, grant))
        return response

    async def _send(
        self, request: web.Request, response: web.StreamResponse, asked: resource.Blob, reach: Reach, body: _Body
    ) -> None:
        """Send the head once there is a first byte, then the rest. Raises :class:`MirrorError` before the head only."""
        async with aclosing(body.blob.read(body.start, body.end)) as chunks:
            first = await self._first(chunks, asked, reach)
            response.content_length = body.end - body.start
            await response.prepare(request)
            try:
                await self._write(response, first, body.grant)
                async for chunk in chunks:
                    await self._write(response, chunk, body.grant)
            except (MirrorError, TimeoutError) as error:
                self._break_off(response, asked, error)
            else:
                self.counts.blobs += 1

    async def _first(self, chunks: AsyncGenerator[bytes, None], asked: resource.Blob, reach: Reach) -> bytes:
        deadline = self._rules.deadlines.first_byte(reach.size, is_config=reach.is_config)
        try:
            async with asyncio.timeout(deadline):
                return await anext(chunks)
        except (TimeoutError, SlowError) as error:
            raise self._late(asked.repository, f"the blob {asked.digest}") from error

    async def _write(self, response: web.StreamResponse, chunk: bytes, grant: Grant | None) -> None:
        async with asyncio.timeout(self._rules.deadlines.reader):
            await response.write(chunk)
        self.counts.bytes += len(chunk)
        if grant is not None:
            grant.bytes += len(chunk)

    def _break_off(self, response: web.StreamResponse, asked: resource.Blob, error: Exception) -> None:
        """End the connection behind what was sent, by FIN: aiohttp closes it after what is buffered went."""
        response.force_close()
        self.counts.broken += 1
        if isinstance(error, SlowError):
            self._breaker.trip(str(asked.repository), self._clock())
        log.warning("a body was broken off", repository=str(asked.repository), digest=asked.digest, why=str(error))

    # Pulls by order

    def _is_to_show(self, repository: Repository, authorization: str) -> bool:
        """It may be a pull by order. Another client's goes to the registry, which is its own to ask."""
        return not authorization and self._grants.awaits(str(repository))

    def _grant(self, repository: Repository, authorization: str) -> Grant | None:
        """The order in whose name this is; ``None``: in nobody's. Raises :class:`MirrorError` for one that is over."""
        grant = self._grants.find(str(repository), authorization)
        if grant is None and is_ours(authorization):
            raise MirrorError(f"no pull of {repository} with this password goes on")
        return grant

    # The breaker

    def _spare(self, repository: Repository) -> None:
        if self._breaker.is_open(str(repository), self._clock()):
            raise MirrorError(f"something of {repository} was too slow a moment ago")

    def _late(self, repository: Repository, what: str) -> MirrorError:
        self._breaker.trip(str(repository), self._clock())
        self.counts.late += 1
        log.warning("given up waiting; the registry is asked", repository=str(repository), what=what)
        return MirrorError(f"{what} of {repository} did not come in time")


@dataclass(frozen=True, slots=True)
class _Body:
    blob: Blob
    start: int
    end: int
    grant: Grant | None


def _range(request: web.Request, length: int, etag: str) -> ByteRange | None:
    """The range that is asked for. Raises :class:`UnsatisfiableError`."""
    if request.method != "GET" or request.headers.get("If-Range", etag) != etag:
        return None
    return byterange.parse(request.headers.get("Range"), length)


def _document(found: Document, *, head: bool) -> web.Response:
    headers = {
        **_VERSION,
        "Docker-Content-Digest": found.digest,
        "Content-Type": found.media_type,
        "Content-Length": str(len(found.body)),
        "ETag": f'"{found.digest}"',
    }
    return web.Response(body=None if head else found.body, headers=headers)


def _challenge(found: Challenge) -> web.Response:
    """Pass the registry's challenge on: containerd takes its password to where that says, and comes again."""
    response = _error(401, "UNAUTHORIZED", "the registry wants credentials")
    for value in found.values:
        response.headers.add("WWW-Authenticate", value)
    return response


def _error(status: int, code: str, message: str, **headers: str) -> web.Response:
    """Answer an error in the shape that registries have."""
    body = msgspec.json.encode({"errors": [{"code": code, "message": message}]})
    return web.Response(status=status, body=body, content_type="application/json", headers={**_VERSION, **headers})
