"""Sends small requests to registries and token servers, through the outbound client."""

import asyncio
import contextlib
import zlib
from typing import NamedTuple

from multidict import CIMultiDict

from pantala_supernode.errors import SourceDeniedError
from pantala_supernode.origin.places import HostPlaces
from pantala_supernode.outbound.client import OutboundClient
from pantala_supernode.outbound.errors import OutboundError
from pantala_supernode.outbound.handles import Origin
from pantala_supernode.outbound.request import Head, Request
from pantala_supernode.outbound.target import RequestTarget
from pantala_supernode.registry.errors import InvalidAnswerError, RegistryUnreachableError, from_denial, from_fault

_CODINGS = frozenset({"br", "compress", "deflate", "gzip", "x-compress", "x-gzip", "zstd"})
_GZIP = frozenset({"gzip", "x-gzip"})
_PLACES = 128
"""The most requests at once. All other threads of the outbound client are for the CDN."""
_HOST_PLACES = 16
"""The most requests to one host at once, so that a host that does not answer cannot use up all places."""
TOTAL = 30.0
"""The most seconds for a request with its answer and all redirects. The answers are small."""


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

    async def ask(self, request: Request, what: str, *, most: int) -> RegistryReply:
        """Send one request, follow its redirects, and read a body of at most ``most`` bytes.

        ``what``: the object of the request, for messages. Raises :class:`RegistryError` if no valid answer arrives.
        """
        sink = _Memory(what, most)
        try:
            async with asyncio.timeout(self._total), self._places.place(RequestTarget.parse(request.url).origin):
                head = await self._client.send(request, sink)
        except TimeoutError:
            raise RegistryUnreachableError.of(what, "the server did not answer in time") from None
        except OutboundError as error:
            raise from_fault(error, what) from None
        except SourceDeniedError as error:
            raise from_denial(error, what) from None
        body = _decoded(head, bytes(sink.body), what, most)
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


def _decoded(head: Head, body: bytes, what: str, most: int) -> bytes:
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
            plain = reader.decompress(body, most + 1)
            if reader.eof and len(plain) <= most:
                return plain
    raise InvalidAnswerError.of(what, f"the answer is compressed ({coding}) although the request forbids it")
