"""A request over HTTP, the head of its answer, and the limits of both."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, Self

from multidict import CIMultiDict

from pantala_protocol.redaction import RedactedURL
from pantala_supernode.outbound.errors import Fault, OutboundError

_STATUS = re.compile(rb"HTTP/[0-9.]+ ([0-9]{3})", re.IGNORECASE)
_SWITCHING = 101
_LENGTH = re.compile(r"[0-9]{1,18}")
"""Matches the length of a body. A longer number is not valid, and libcurl ignores it too."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a server may take, in seconds."""

    connect: float = 10.0
    """The longest time to connect, including TLS. The lookup of the name has the same limit."""
    first_byte: float = 300.0
    """The longest time from the request to the first byte. A caching repository may fetch the whole file first."""
    stall: float = 30.0
    """The longest time without a byte, once the body has begun."""
    window: float = 60.0
    """The length of a window in which the speed is measured."""
    minimum: int = 64 * 1024
    """Bytes that the server must send in each window. At a lower rate, a large file would take days."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of an answer is accepted."""

    head: int = 256 * 1024
    """Bytes of all header fields of one answer."""
    redirects: int = 10


class Request(NamedTuple):
    """One request. Header values follow :mod:`pantala_protocol.rules.headers`."""

    url: str
    headers: Mapping[str, str]
    """Headers that are sent to every host, also after redirects."""
    credentials: Mapping[str, str] = {}
    """Further, secret headers. After a redirect they are sent only if
    :meth:`pantala_supernode.outbound.target.RequestTarget.may_show_credentials` allows it."""
    method: Literal["GET", "HEAD", "POST"] = "GET"
    form: bytes | None = None
    """The body of a POST. A redirect of a POST is not followed."""
    ca: Path | None = None
    """A file with certificate authorities that are trusted in addition to the system's authorities."""

    def __repr__(self) -> str:
        return f"<Request {self.method} {RedactedURL(self.url)}>"


@dataclass(frozen=True, slots=True)
class Head:
    """The head of the final answer."""

    status: int
    fields: CIMultiDict[str]
    """The header fields. Values are decoded as latin-1, so their bytes can be recovered."""
    same_origin: bool
    """True if the requested host answered. False: a redirect led to another host."""
    url: str = field(default="", repr=False)
    """The URL that answered, after redirects. It may contain a secret."""

    @classmethod
    def read(cls, lines: list[bytes], *, same_origin: bool, url: str) -> Self:
        """Parse the head of an answer. Raises :class:`OutboundError`."""
        status = _STATUS.match(lines[0])
        if status is None:
            raise OutboundError(Fault.PROTOCOL, "its status line is wrong")
        if int(status[1]) == _SWITCHING:  # no request asks for another protocol
            raise OutboundError(Fault.PROTOCOL, "it changes to another protocol")
        fields: CIMultiDict[str] = CIMultiDict()
        for line in lines[1:]:
            name, _, value = line.decode("latin-1").partition(":")
            fields.add(name.strip(), value.strip())
        return cls(int(status[1]), fields, same_origin, url)

    @property
    def chunked(self) -> bool:
        return "chunked" in self.fields.get("Transfer-Encoding", "").lower()

    @property
    def length(self) -> int | None:
        """The announced length of the body. ``None``: the answer has none, or its chunks show the end.

        Equal lengths count as one, also in one field (RFC 9110, 8.6).
        """
        lengths = {each.strip() for value in self.fields.getall("Content-Length", []) for each in value.split(",")}
        text = lengths.pop() if len(lengths) == 1 and not self.chunked else ""
        return int(text) if _LENGTH.fullmatch(text) else None


class Sink(Protocol):
    """Receives one answer, in the thread that reads it. An exception ends the transfer, and the caller gets it."""

    def begin(self, head: Head) -> None:
        """Receive the head of the final answer."""

    def take(self, data: bytes) -> None:
        """Receive the next bytes of the body. While this call blocks, the server must wait."""
