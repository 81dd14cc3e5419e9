"""Sends small requests to registries and token servers. The adapter uses aiohttp."""

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, Self

import aiohttp
from multidict import CIMultiDictProxy
from yarl import URL

from pantala_process.http import TooLargeError, read_bounded
from pantala_protocol.redaction import RedactedURL
from pantala_supernode import errors
from pantala_supernode.origin import refusal
from pantala_supernode.origin.egress import EgressPolicy, open_session
from pantala_supernode.registry.errors import (
    InvalidAnswerError,
    RegistryCertificateError,
    RegistryDeniedError,
    RegistryError,
    from_source_error,
)

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MAX_REDIRECTS = 5
_CONNECTIONS = 64
_CONNECTIONS_PER_HOST = 16
"""Concurrent requests to one registry. Further ones wait. Blobs are not counted."""


@dataclass(frozen=True)
class RegistryTimeouts:
    """Time limits of one request to a registry, in seconds."""

    connect: float = 10.0
    """For resolving the name and connecting."""
    total: float = 30.0
    """For the whole answer, with all redirects. Manifests are small."""


class RegistryRequest(NamedTuple):
    """One small request."""

    method: Literal["GET", "HEAD", "POST"]
    url: str
    what: str
    """What the request is about, for messages."""
    headers: Mapping[str, str]
    limit: int
    """The largest body that is accepted, in bytes."""
    ca: Path | None = None
    """An additional authority for the registry's certificate."""
    form: Mapping[str, str] | None = None
    """The body of a POST."""

    def __repr__(self) -> str:
        return f"<Request {self.method} {RedactedURL(self.url)}>"


class RegistryReply(NamedTuple):
    """An answer with any status."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes
    own: bool
    """True if the requested host answered, False if a redirect led to another one."""


class RegistryTransport:
    """An HTTP client without cookies and proxies that connects only where ``egress`` allows."""

    def __init__(self, egress: EgressPolicy, timeouts: RegistryTimeouts) -> None:
        self._egress = egress
        self._timeouts = timeouts
        self._contexts: dict[Path, ssl.SSLContext] = {}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=timeouts.connect)
        self._session = open_session(egress, timeout, limit=_CONNECTIONS, limit_per_host=_CONNECTIONS_PER_HOST)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def ask(self, request: RegistryRequest) -> RegistryReply:
        """Send one request and follow its redirects. Raises :class:`RegistryError` without an answer.

        Only the URL's own host receives ``Authorization``. A POST does not follow redirects.
        """
        try:
            async with asyncio.timeout(self._timeouts.total):
                return await self._follow(request)
        except RegistryError:
            raise
        except errors.SourceError as error:
            raise from_source_error(error, request.what) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:  # the text may quote a signed URL
            raise from_source_error(refusal.from_exception(error, RedactedURL(request.url)), request.what) from None

    async def _follow(self, request: RegistryRequest) -> RegistryReply:
        first = url = URL(request.url, encoded=True)
        tls = self._context(request.ca)
        for _ in range(_MAX_REDIRECTS + 1):
            self._egress.check_literal(url.host or "")
            own = url.origin() == first.origin()
            headers = {"Accept-Encoding": "identity", **request.headers}
            if not own:
                headers.pop("Authorization", None)
            async with self._session.request(
                request.method, url, headers=headers, data=request.form, allow_redirects=False, ssl=tls
            ) as response:
                redirected = response.status in _REDIRECTS and "Location" in response.headers
                if not redirected or request.form is not None:
                    return RegistryReply(response.status, response.headers, await _body(response, request), own)
                url = _target(url, response.headers["Location"], request.what)
        raise InvalidAnswerError.of(request.what, f"it redirects more than {_MAX_REDIRECTS} times")

    def _context(self, ca: Path | None) -> ssl.SSLContext | bool:
        if ca is None:
            return True
        if ca not in self._contexts:
            self._contexts[ca] = trust(ca)
        return self._contexts[ca]


def trust(ca: Path) -> ssl.SSLContext:
    """Trust the system's authorities and the one in the file ``ca``. Raises :class:`RegistryCertificateError`."""
    context = ssl.create_default_context()
    try:
        context.load_verify_locations(ca)
    except (OSError, ssl.SSLError) as error:
        raise RegistryCertificateError.of(str(ca), "the file does not contain readable certificates") from error
    return context


async def _body(response: aiohttp.ClientResponse, request: RegistryRequest) -> bytes:
    if response.headers.get("Content-Encoding", "identity").strip().lower() not in ("", "identity"):
        raise InvalidAnswerError.of(request.what, "the answer is compressed although the request did not allow that")
    try:
        return await read_bounded(response, request.limit)
    except TooLargeError as error:
        raise InvalidAnswerError.of(request.what, str(error)) from error


def _target(url: URL, location: str, what: str) -> URL:
    target = url.join(URL(location, encoded=True)).with_fragment(None)
    if target.scheme not in ("http", "https") or not target.host or target.user is not None:
        raise RegistryDeniedError.of(what, "it redirects to something else than a valid http: or https: URL")
    if url.scheme == "https" and target.scheme == "http":
        raise RegistryDeniedError.of(what, "it redirects from https: to http:")
    return target
