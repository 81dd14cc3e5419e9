"""The mirror's routes: ``GET`` and ``HEAD`` of ``/v2/``, manifests and blobs, for containerd alone.

The mirror limits each wait, and serves only verified bytes. Missing content is a 404 before the deadline. The head of
an answer waits for the first bytes. A broken body ends with FIN, and containerd asks the registry for the other bytes.
"""

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
from pantala_peer.mirror import request as requests
from pantala_peer.mirror.blobs import CachedBlobs
from pantala_peer.mirror.deadlines import Deadlines, RepositoryBreaker
from pantala_peer.mirror.demand import BlobOrigin
from pantala_peer.mirror.errors import MirrorError, ProbeMissError, SlowError
from pantala_peer.mirror.grants import CHALLENGE, PullGrant, PullGrants, is_ours
from pantala_peer.mirror.manifests import CachedManifests, RegistryChallenge, ServedManifest
from pantala_peer.mirror.request import (
    BlobRequest,
    ByteRange,
    ManifestRequest,
    MirrorRequest,
    ProbeResult,
    UnsatisfiableError,
)
from pantala_peer.mirror.rights import ReadRights
from pantala_protocol.image import ImageRepository
from pantala_protocol.rules.headers import to_text

_VERSION = {"Docker-Distribution-API-Version": "registry/2.0"}

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class MirrorRules:
    """Which requests the mirror serves, and how long they may take."""

    token_file: Path | None = None
    """The file with the token that containerd reads from ``hosts.toml``. ``None``: every process may use the mirror."""
    resolve: bool = False
    """True if the mirror also resolves tags. Otherwise, containerd asks the registry, which authorizes each pull."""
    deadlines: Deadlines = field(default_factory=Deadlines)


@dataclass(slots=True)
class MirrorCounts:
    """Counters since the start of the mirror."""

    manifests: int = 0
    blobs: int = 0
    """Answers with a complete blob or a complete requested range."""
    bytes: int = 0
    """Bytes of blobs that were sent to containerd."""
    misses: int = 0
    """Requests that were answered with 404. containerd then asks the registry. Probes do not count."""
    late: int = 0
    """The ``misses`` because of a deadline."""
    broken: int = 0
    """Answers that ended early. containerd then gets the remaining bytes from the registry."""


class MirrorServer:
    """Handles containerd's requests. ``clock`` returns monotonic seconds."""

    def __init__(
        self,
        blobs: CachedBlobs,
        manifests: CachedManifests,
        rights: ReadRights,
        rules: MirrorRules,
        grants: PullGrants,
        *,
        clock: Callable[[], float],
    ) -> None:
        self.counts = MirrorCounts()
        self._probe: ProbeResult | None = None
        self._blobs = blobs
        self._manifests = manifests
        self._rights = rights
        self._rules = rules
        self._grants = grants
        self._breaker = RepositoryBreaker()
        self._clock = clock
        self._token = b""

    def application(self, token: str) -> web.Application:
        """The web application. It serves requests with ``token`` in ``x-pantala-mirror``. Empty: it serves all."""
        self._token = token.encode()
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._handle)
        return application

    def last_probe(self) -> ProbeResult | None:
        return self._probe

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        answer = await self._answer(request)
        if not self._knows(
            request
        ):  # other programs of the node share containerd's address; their idle connections could use up its limit
            answer.force_close()
        return answer

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if request.method not in ("GET", "HEAD"):
            return _error(405, "UNSUPPORTED", "this mirror serves only GET and HEAD", Allow="GET, HEAD")
        try:
            asked = self._admit(request)
            if isinstance(asked, ManifestRequest):
                return await self._manifest(request, asked)
            if isinstance(asked, BlobRequest):
                return await self._blob(request, asked)
        except MirrorError as error:
            self.counts.misses += not isinstance(error, ProbeMissError)
            log.debug("the mirror cannot serve a request", path=request.rel_url.raw_path[:512], why=str(error))
            return _error(404, "UNKNOWN", str(error))
        return web.json_response({}, headers=_VERSION)

    def _admit(self, request: web.Request) -> MirrorRequest:
        """Parse a request that containerd sends because of the peer's ``hosts.toml``.

        Without ``ns``, containerd uses the mirror as the registry itself. A request to the registry would then loop.
        """
        path, names = request.rel_url.raw_path, request.query.getall("ns", [])
        by_our_file = len(names) == 1 and self._knows(request)
        node = requests.probed_node(path)
        if node is not None:
            if by_our_file:  # a request without our token may come from any program, so it proves nothing
                self._probe = ProbeResult(node, at=self._clock())
            raise ProbeMissError("this image is only the peer's probe and does not exist")
        if not by_our_file:
            raise MirrorError("the request lacks the header of this node's hosts.toml; run pantala-peer configure")
        return requests.parse_path(path, names[0])

    def _knows(self, request: web.Request) -> bool:
        """True if the request has the mirror's token."""
        shown = request.headers.get(HEADER, "").encode("utf-8", "surrogateescape")
        return not self._token or hmac.compare_digest(shown, self._token)

    # Manifests

    async def _manifest(self, request: web.Request, asked: ManifestRequest) -> web.Response:
        if asked.by_tag and not self._rules.resolve:
            raise MirrorError("this mirror does not resolve tags; ask the registry")
        authorization = request.headers.get("Authorization", "")
        if not asked.by_tag and self._must_authenticate(asked.repository, authorization):
            return _challenge(RegistryChallenge((CHALLENGE,)))
        grant = self._grant(asked.repository, authorization)
        if not self._manifests.holds(asked.repository, asked.reference, authorization):
            self._check_breaker(asked.repository)
        order = grant.key if grant else ""
        try:
            async with asyncio.timeout(self._rules.deadlines.manifest):
                found = await self._manifests.get(asked.repository, asked.reference, authorization, order)
        except (TimeoutError, SlowError) as error:
            raise self._late(asked.repository, "the manifest") from error
        if isinstance(found, RegistryChallenge):
            return _challenge(found)
        self.counts.manifests += 1
        return _document(found, head=request.method == "HEAD")

    # Blobs

    async def _blob(self, request: web.Request, asked: BlobRequest) -> web.StreamResponse:
        authorization = request.headers.get("Authorization", "")
        if self._must_authenticate(asked.repository, authorization):
            return _challenge(RegistryChallenge((CHALLENGE,)))
        grant = self._grant(asked.repository, authorization)
        client = self._rights.client(str(asked.repository), authorization)
        info = self._manifests.info(client, asked.digest)
        if info is None and request.method == "HEAD":
            # containerd 2.4 requests a refused manifest as a blob, too. A 404 here would end the pull.
            return await self._manifest(request, ManifestRequest(asked.repository, asked.digest))
        if info is None or not info.size:
            raise MirrorError(f"this client must first read a manifest with the digest {asked.digest}")
        headers = {
            **_VERSION,
            "Docker-Content-Digest": asked.digest,
            "Content-Type": "application/octet-stream",
            "Accept-Ranges": "bytes",
            "ETag": f'"{asked.digest}"',
        }
        try:
            part = _range(request, info.size, headers["ETag"])
        except UnsatisfiableError as error:
            return _error(416, "RANGE_INVALID", str(error), **{"Content-Range": f"bytes */{info.size}"})
        if not self._blobs.holds(asked.digest):
            self._check_breaker(asked.repository)
        if request.method == "HEAD":
            return web.Response(headers={**headers, "Content-Length": str(info.size)})
        response = web.StreamResponse(headers=headers)
        if part is not None:
            response.set_status(206)
            response.headers["Content-Range"] = f"bytes {part.start}-{part.end - 1}/{info.size}"
        origin = BlobOrigin(asked.repository, info.size, "" if grant else authorization, grant.key if grant else "")
        part = part or ByteRange(0, info.size)
        deadline = self._rules.deadlines.first_byte(info.size, is_config=info.is_config)
        async with aclosing(self._blobs.read(asked.digest, origin, client, *part, first=deadline)) as chunks:
            try:
                first = await anext(chunks)
            except SlowError as error:
                raise self._late(asked.repository, f"the blob {asked.digest}") from error
            response.content_length = part.end - part.start
            await response.prepare(request)
            await self._send(response, asked, first, chunks, grant)
        return response

    async def _send(
        self,
        response: web.StreamResponse,
        asked: BlobRequest,
        first: bytes,
        chunks: AsyncGenerator[bytes, None],
        grant: PullGrant | None,
    ) -> None:
        try:
            await self._write(response, first, grant)
            async for chunk in chunks:
                await self._write(response, chunk, grant)
        except (MirrorError, TimeoutError) as error:
            self._break_off(response, asked, error)
        else:
            self.counts.blobs += 1

    async def _write(self, response: web.StreamResponse, chunk: bytes, grant: PullGrant | None) -> None:
        async with asyncio.timeout(self._rules.deadlines.reader):
            await response.write(chunk)
        self.counts.bytes += len(chunk)
        if grant is not None:
            grant.bytes += len(chunk)

    def _break_off(self, response: web.StreamResponse, asked: BlobRequest, error: Exception) -> None:
        """End an answer early. The connection closes with FIN after the written bytes."""
        response.force_close()
        self.counts.broken += 1
        if isinstance(error, SlowError):
            self._breaker.trip(str(asked.repository), self._clock())
        log.warning("sent only part of a blob", repository=str(asked.repository), digest=asked.digest, why=str(error))

    # Pulls by order

    def _must_authenticate(self, repository: ImageRepository, authorization: str) -> bool:
        """True if the request may belong to an ordered pull, so that it needs the password."""
        return not authorization and self._grants.awaits(str(repository))

    def _grant(self, repository: ImageRepository, authorization: str) -> PullGrant | None:
        """The pull with this password, or ``None`` for other headers. Raises :class:`MirrorError` for an ended pull."""
        grant = self._grants.find(str(repository), authorization)
        if grant is None and is_ours(authorization):
            raise MirrorError(f"the pull of {repository} with this password has ended")
        return grant

    # The breaker

    def _check_breaker(self, repository: ImageRepository) -> None:
        if self._breaker.is_open(str(repository), self._clock()):
            raise MirrorError(f"the mirror was too slow for {repository} in the last seconds; ask the registry")

    def _late(self, repository: ImageRepository, what: str) -> MirrorError:
        self._breaker.trip(str(repository), self._clock())
        self.counts.late += 1
        log.warning("the mirror was too slow; containerd asks the registry", repository=str(repository), what=what)
        return MirrorError(f"{what} of {repository} did not arrive in time")


def _range(request: web.Request, length: int, etag: str) -> ByteRange | None:
    if request.method != "GET" or request.headers.get("If-Range", etag) != etag:
        return None
    return requests.parse_range(request.headers.get("Range"), length)


def _document(found: ServedManifest, *, head: bool) -> web.Response:
    headers = {
        **_VERSION,
        "Docker-Content-Digest": found.digest,
        "Content-Type": found.media_type,
        "Content-Length": str(len(found.body)),
        "ETag": f'"{found.digest}"',
    }
    return web.Response(body=None if head else found.body, headers=headers)


def _challenge(found: RegistryChallenge) -> web.Response:
    """The answer with the registry's challenge. containerd then authenticates at the registry and repeats the request.

    aiohttp writes headers in UTF-8. So containerd gets the same text, but not always the same bytes.
    """
    response = _error(401, "UNAUTHORIZED", "the registry requires credentials")
    for value in found.values:
        response.headers.add("WWW-Authenticate", to_text(value))
    return response


def _error(status: int, code: str, message: str, **headers: str) -> web.Response:
    """An error in the format of the OCI distribution API."""
    body = msgspec.json.encode({"errors": [{"code": code, "message": message}]})
    return web.Response(status=status, body=body, content_type="application/json", headers={**_VERSION, **headers})
