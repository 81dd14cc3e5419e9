"""Sends small requests to registries and token servers, through the outbound client."""

import asyncio
import contextlib
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import urlencode

from multidict import CIMultiDict

from pantala_protocol.redaction import RedactedURL
from pantala_supernode.errors import SourceError, SourceTimeoutError
from pantala_supernode.origin.places import HostPlaces
from pantala_supernode.outbound.client import OutboundClient
from pantala_supernode.outbound.errors import OutboundError
from pantala_supernode.outbound.handles import Origin
from pantala_supernode.outbound.request import Head, Request
from pantala_supernode.outbound.target import RequestTarget
from pantala_supernode.registry.errors import InvalidAnswerError, RegistryError, from_fault, from_source_error

_CODINGS = frozenset({"br", "compress", "deflate", "gzip", "x-compress", "x-gzip", "zstd"})
_GZIP = frozenset({"gzip", "x-gzip"})
_PLACES = 128
"""The most requests at once. All other threads of the outbound client are for the CDN."""
_HOST_PLACES = 16
"""The most requests to one host at once, so that a host that does not answer cannot use up all places."""
TOTAL = 30.0
"""The most seconds for a request with its answer and all redirects. The answers are small."""


class RegistryRequest(NamedTuple):
    """One small request."""

    method: Literal["GET", "HEAD", "POST"]
    url: str
    what: str
    """The object of the request, for messages: an image, a repository or a token."""
    headers: Mapping[str, str]
    limit: int
    """The largest body that is accepted, in bytes."""
    ca: Path | None = None
    """A file with an additional certificate authority."""
    form: Mapping[str, str] | bytes | None = None
    """The body of a POST: a form, or bytes of the type that a header names. ``None``: no body."""

    def __repr__(self) -> str:
        return f"<Request {self.method} {RedactedURL(self.url)}>"


class RegistryReply(NamedTuple):
    """An answer with any status."""

    status: int
    headers: CIMultiDict[str]
    body: bytes
    own: bool
    """True if the requested host answered. False: a redirect led to another host."""
    url: str = ""
    """The URL that answered, after redirects, without its query, which may contain a secret."""


class RegistryTransport:
    """Sends requests whose answers fit in memory."""

    def __init__(self, client: OutboundClient, total: float = TOTAL) -> None:
        self._client = client
        self._total = total
        self._places: HostPlaces[Origin] = HostPlaces(_PLACES, _HOST_PLACES)

    async def ask(self, request: RegistryRequest) -> RegistryReply:
        """Send one request and follow its redirects. Raises :class:`RegistryError` if no valid answer arrives."""
        what, shown = request.what, RedactedURL(request.url)
        headers = CIMultiDict(request.headers)
        credentials = {"Authorization": headers.pop("Authorization")} if "Authorization" in headers else {}
        form = urlencode(request.form).encode() if isinstance(request.form, Mapping) else request.form
        sink = _Memory(request.what, request.limit)
        try:
            async with asyncio.timeout(self._total), self._places.place(RequestTarget.parse(request.url).origin):
                head = await self._client.send(
                    Request(request.url, headers, credentials, request.method, form, request.ca), sink
                )
        except TimeoutError:
            raise from_source_error(SourceTimeoutError.with_action(f"{shown} did not answer in time"), what) from None
        except OutboundError as error:
            raise from_fault(error, what) from None
        except RegistryError:
            raise
        except SourceError as error:
            raise from_source_error(error, what) from None
        body = _decoded(head, bytes(sink.body), request)
        return RegistryReply(head.status, head.fields, body, head.same_origin, head.url.partition("?")[0])


class _Memory:
    """A sink that keeps the body in memory."""

    def __init__(self, what: str, limit: int) -> None:
        self._what = what
        self._limit = limit
        self.body = bytearray()

    def begin(self, head: Head) -> None:
        """Does nothing: the caller gets the head from the client."""

    def take(self, data: bytes) -> None:
        self.body += data
        if len(self.body) > self._limit:
            raise InvalidAnswerError.of(self._what, f"the answer is larger than {self._limit} bytes")


def _decoded(head: Head, body: bytes, request: RegistryRequest) -> bytes:
    """The body, decompressed if a proxy applied gzip. Some proxies do so although the request forbids it.

    Plain JSON is returned unchanged, even if a header says that it is compressed. Raises
    :class:`InvalidAnswerError` for other compressions.
    """
    coding = head.fields.get("Content-Encoding", "identity").strip().lower()
    if coding not in _CODINGS or not body or body.lstrip().startswith(b"{"):
        return body
    if coding in _GZIP:
        reader = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        with contextlib.suppress(zlib.error):
            plain = reader.decompress(body, request.limit + 1)
            if reader.eof and len(plain) <= request.limit:
                return plain
    what_happened = f"the answer is compressed ({coding}) although the request forbids it"
    raise InvalidAnswerError.of(request.what, what_happened)
