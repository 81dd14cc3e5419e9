"""The heads of requests for pieces, and the heads of their answers. Pure.

There are two routes. Peers request ``/pieces/<task ID>/<generation>`` with a ``Range`` and a ticket in a header.
Dragonfly's clients request ``/wrapped/<ticket>/<task ID>/<generation>`` with the ``Range`` of one wrapped piece (see
:mod:`pantala_protocol.geometry`). They cannot send the ticket's header, so the path has the ticket.
"""

import re
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

import msgspec

from pantala_pieces.transfer.requests import ANSWER_HEAD
from pantala_process.http import ErrorBody, ErrorDetail
from pantala_protocol import ticket

MAX_HEAD = 8192
"""The most bytes of a request's head."""

_END = b"\r\n\r\n"

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_HEAD = re.compile(rb"([A-Za-z]++) ([!-~]++) HTTP/1\.([01])\r\n((?:" + _TOKEN + rb":[\t -~\x80-\xff]*+\r\n)*+)\r\n")
_USUAL = re.compile(
    rb"GET ([!-~]++) HTTP/1\.1\r\nHost: [!-~]++\r\n%b: ([!-~]++)\r\nRange: ([!-~]++)\r\n\r\n" % ticket.HEADER.encode()
)
"""The form in which peers send requests. It is read faster than other requests."""
_TICKET = ticket.HEADER.lower().encode()
_FIELD = re.compile(
    rb"(?:\A|\n)(range|connection|content-length|transfer-encoding|" + _TICKET + rb"):([^\r]*+)", re.IGNORECASE
)
_BARE = re.compile(rb"(?<!\r)\n")
_AUTHORITY = re.compile(rb"https?://[^/?]*+", re.IGNORECASE)


class PieceRefusedError(Exception):
    """A request is refused. ``header`` is a further line of the answer. ``close``: the connection must end."""

    def __init__(
        self, status: HTTPStatus, reason: str, message: str, *, header: str = "", close: bool = False, body: bool = True
    ) -> None:
        super().__init__(message)
        self.status = status
        self.close = close
        self._reason = reason
        self._header = header
        self._body = body

    def answer(self, *, close: bool) -> bytes:
        """The whole answer. ``close``: the connection ends after it."""
        content = msgspec.json.encode(ErrorBody(ErrorDetail(self._reason, str(self))))
        lines = [
            f"HTTP/1.1 {self.status} {self.status.phrase}",
            "Content-Type: application/json",
            f"Content-Length: {len(content)}",
        ]
        if self._header:
            lines.append(self._header)
        if close:
            lines.append("Connection: close")
        return "\r\n".join([*lines, "\r\n"]).encode("ascii") + (content if self._body else b"")


class RequestHead(msgspec.Struct, frozen=True):
    """The parts of a request for a piece, not checked yet."""

    target: bytes
    ticket: bytes
    """The ticket in the header. Dragonfly's clients do not send this header, so it is empty for them."""
    range: bytes
    keep: bool
    """True if the connection stays open after the answer."""
    announce: bool
    """True if the answer must say that the connection stays open, as the client uses HTTP/1.0."""


class PieceRoute(NamedTuple):
    """The parts of a request's path, decoded."""

    wrapped: bool
    task_id: str
    generation: str
    ticket: str


def wrapped_path(shown: str, task_id: str, generation: str) -> str:
    """The URL path of a task, for a client of Dragonfly with the ticket ``shown``."""
    return f"/wrapped/{shown}/{task_id}/{generation}"


def split(received: bytes) -> tuple[bytes, bytes] | None:
    """Split bytes into one request's head and the bytes after it. ``None``: the head is not complete.

    The result does not depend on how the bytes arrived. Raises :class:`PieceRefusedError` for a head that is too large
    or cannot become valid.
    """
    end = received.find(_END, 0, MAX_HEAD)
    if end >= 0:
        return received[: end + 4], received[end + 4 :]
    if received and (not received[:1].isalpha() or _BARE.search(received, 0, MAX_HEAD)):
        raise _malformed("The head of the request is not valid HTTP/1.1.")
    if len(received) >= MAX_HEAD:
        text = f"The head of the request is larger than {MAX_HEAD} bytes."
        raise PieceRefusedError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "HeadTooLarge", text, close=True)
    return None


def parse(head: bytes) -> RequestHead:
    """Read a complete head. Raises :class:`PieceRefusedError`."""
    usual = _USUAL.fullmatch(head)
    if usual is not None:
        return RequestHead(usual[1], usual[2], usual[3], True, False)
    match = _HEAD.fullmatch(head)
    if match is None:
        raise _malformed("The head of the request is not valid HTTP/1.1.")
    method, target, minor, lines = match.groups()
    fields: dict[bytes, bytes] = {}
    for name, value in _FIELD.findall(lines):
        name, value = name.lower(), value.strip(b" \t")
        fields[name] = value if name not in fields else fields[name] + b"," + value
    if method != b"GET":
        refusal = (HTTPStatus.METHOD_NOT_ALLOWED, "MethodNotAllowed", "Request pieces with GET.")
        raise PieceRefusedError(*refusal, header="Allow: GET", close=True, body=method != b"HEAD")
    if b"transfer-encoding" in fields or fields.get(b"content-length", b"0") != b"0":
        raise _malformed("A request for a piece must not have a body.")
    options = fields.get(b"connection", b"").lower()
    keep = b"close" not in options if minor == b"1" else b"keep-alive" in options
    return RequestHead(target, fields.get(_TICKET, b""), fields.get(b"range", b""), keep, keep and minor == b"0")


def route(head: RequestHead) -> PieceRoute:
    """Find the route of a request. Raises :class:`PieceRefusedError` if the path has no route."""
    path = _AUTHORITY.sub(b"", head.target, 1) if head.target[:1] != b"/" else head.target
    match [unquote_to_bytes(part).decode(errors="replace") for part in path.partition(b"?")[0].split(b"/")]:
        case ["", "pieces", task_id, generation]:
            return PieceRoute(False, task_id, generation, head.ticket.decode("latin-1"))
        case ["", "wrapped", shown, task_id, generation]:
            return PieceRoute(True, task_id, generation, shown)
    raise PieceRefusedError(HTTPStatus.NOT_FOUND, "NotFound", "Only pieces are served here.")


def piece_head(first: int, size: int, total: int | None, request: RequestHead) -> bytes:
    """The head of an answer with ``size`` bytes from the byte ``first`` on."""
    whole = b"*" if total is None else b"%d" % total
    connection = b"Connection: close\r\n" if not request.keep else b"Connection: keep-alive\r\n"
    fields = connection if request.announce or not request.keep else b""
    return ANSWER_HEAD % (size, first, first + size - 1) + b"%b\r\n%b\r\n" % (whole, fields)


def busy() -> PieceRefusedError:
    text = "This provider sends too many pieces now. Try again later."
    return PieceRefusedError(HTTPStatus.SERVICE_UNAVAILABLE, "Busy", text, header="Retry-After: 1")


def _malformed(text: str) -> PieceRefusedError:
    return PieceRefusedError(HTTPStatus.BAD_REQUEST, "RequestInvalid", text, close=True)
