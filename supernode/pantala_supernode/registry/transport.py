"""Requests to registries and token servers with small answers: the adapter by aiohttp."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Literal, NamedTuple, Self

import aiohttp
from multidict import CIMultiDictProxy
from yarl import URL

from pantala_protocol import __version__
from pantala_protocol.redaction import RedactedURL
from pantala_supernode import errors
from pantala_supernode.origin import refusal
from pantala_supernode.origin.egress import CheckedResolver, EgressPolicy
from pantala_supernode.registry.errors import (
    InvalidAnswerError,
    RegistryCertificateError,
    RegistryDeniedError,
    RegistryError,
    RegistryUnauthorizedError,
    RegistryUnreachableError,
)

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MAX_REDIRECTS = 5
_CONNECTIONS = 64
_CONNECTIONS_PER_HOST = 16
"""A registry is asked by so many at once; the rest wait. Blobs are not counted here."""


@dataclass(frozen=True)
class RegistryTimeouts:
    """How long a registry may take, in seconds."""

    connect: float = 10.0
    """For its name and the connection."""
    total: float = 30.0
    """For the answer with all redirects: manifests are small."""


class RegistryRequest(NamedTuple):
    """What to ask."""

    method: Literal["GET", "HEAD", "POST"]
    url: str
    what: str
    """It is about, for messages."""
    headers: Mapping[str, str]
    limit: int
    """Bytes of body that are taken at most."""
    ca: Path | None = None
    """The authority of the registry's certificate, beside those that the system trusts."""
    form: Mapping[str, str] | None = None
    """Sent as the body."""

    def __repr__(self) -> str:
        return f"<Request {self.method} {RedactedURL(self.url)}>"


class RegistryReply(NamedTuple):
    """An answer, whatever its status."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes
    own: bool
    """It came from where it was asked of, and not from where that redirected to."""


class Transport:
    """Asks over HTTP. No cookies, no proxy, and only where ``egress`` allows."""

    def __init__(
        self,
        *,
        egress: EgressPolicy | None = None,
        patience: RegistryTimeouts | None = None,
        resolver: aiohttp.abc.AbstractResolver | None = None,
    ) -> None:
        self._egress = egress or EgressPolicy()
        self._patience = patience or RegistryTimeouts()
        self._resolver = resolver
        self._contexts: dict[Path, ssl.SSLContext] = {}
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(
            resolver=CheckedResolver(self._resolver or aiohttp.ThreadedResolver(), self._egress),
            use_dns_cache=False,
            limit=_CONNECTIONS,
            limit_per_host=_CONNECTIONS_PER_HOST,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._patience.connect),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": f"pantala/{__version__}"},
            trust_env=False,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def ask(self, request: RegistryRequest) -> RegistryReply:
        """The answer, whatever its status. Raises :class:`RegistryError`.

        ``Authorization`` goes to the host of the URL alone; what is POSTed is not sent on by redirects.
        """
        try:
            async with asyncio.timeout(self._patience.total):
                return await self._follow(request)
        except RegistryError:
            raise
        except errors.SourceError as error:
            raise _translated(error, request.what) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:  # its text may quote a signed URL
            raise _translated(refusal.from_exception(error, RedactedURL(request.url)), request.what) from None

    async def _follow(self, request: RegistryRequest) -> RegistryReply:
        if self._session is None:
            raise RuntimeError("the transport is not open: use it as a context manager")
        first = url = URL(request.url, encoded=True)
        tls = self._context(request.ca)
        for _ in range(_MAX_REDIRECTS + 1):
            self._check_literal(url)
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

    def _check_literal(self, url: URL) -> None:
        """Check a host that is an address, which aiohttp does not resolve."""
        try:
            ip_address((url.host or "").partition("%")[0])
        except ValueError:
            return
        self._egress.check(url.host or "")

    def _context(self, ca: Path | None) -> ssl.SSLContext | bool:
        if ca is None:
            return True
        if ca not in self._contexts:
            self._contexts[ca] = trust(ca)
        return self._contexts[ca]


def trust(ca: Path) -> ssl.SSLContext:
    """Trust in what the system trusts and in the authority of file ``ca``. Raises :class:`RegistryCertificateError`."""
    context = ssl.create_default_context()
    try:
        context.load_verify_locations(ca)
    except (OSError, ssl.SSLError) as error:
        raise RegistryCertificateError.of(str(ca), "the file cannot be read as certificates") from error
    return context


async def _body(response: aiohttp.ClientResponse, request: RegistryRequest) -> bytes:
    if response.headers.get("Content-Encoding", "identity").strip().lower() not in ("", "identity"):
        raise InvalidAnswerError.of(request.what, "it came compressed, which was not asked for")
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > request.limit:
            raise InvalidAnswerError.of(request.what, f"the answer is larger than {request.limit} bytes")
    return bytes(body)


def _target(url: URL, location: str, what: str) -> URL:
    target = url.join(URL(location, encoded=True)).with_fragment(None)
    if target.scheme not in ("http", "https") or not target.host or target.user is not None:
        raise RegistryDeniedError.of(what, "it redirects to what is no http: or https: URL")
    if url.scheme == "https" and target.scheme == "http":
        raise RegistryDeniedError.of(what, "it redirects from https: to http:")
    return target


_HAPPENED: dict[type[errors.SourceError], tuple[type[RegistryError], str]] = {
    errors.SourceCertificateError: (RegistryCertificateError, "it could not prove its identity"),
    errors.SourceDeniedError: (RegistryDeniedError, "it has an address that is never connected to"),
    errors.SourceHeadersError: (RegistryUnauthorizedError, "it was not asked, as the credentials cannot be sent"),
    errors.SourceHostUnknownError: (RegistryUnreachableError, "its host has no address"),
    errors.SourceInterruptedError: (RegistryUnreachableError, "the connection was cut"),
    errors.SourceProtocolError: (InvalidAnswerError, "the answer is not HTTP"),
    errors.SourceRefusedError: (RegistryUnreachableError, "the connection was refused"),
    errors.SourceTimeoutError: (RegistryUnreachableError, "it did not answer in time"),
    errors.SourceUnreachableError: (RegistryUnreachableError, "there is no way to its address"),
}


def _translated(error: errors.SourceError, what: str) -> RegistryError:
    kind, happened = _HAPPENED.get(type(error), (InvalidAnswerError, "the answer cannot be used"))
    return kind.of(what, happened)
