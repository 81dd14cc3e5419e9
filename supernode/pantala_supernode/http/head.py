"""Reads the heads of plain requests: HTTP/1.1 on a kept connection, with a ``Content-Length`` or without a body. Pure.

The rules are stricter than HTTP's: a head passes only if every parser reads it in the same way. Any other head raises
:class:`UnusualHeadError`, and aiohttp decides about the request.
"""

from typing import NamedTuple

_MAX_HEAD = 8190
"""The most bytes of a head. aiohttp refuses longer lines."""

_MAX_DIGITS = 9
"""The most digits of a ``Content-Length``."""

_VISIBLE = bytes(range(0x21, 0x7F))
_ALLOWED = _VISIBLE + b" \t\r\n"

_HARMLESS = frozenset(
    b"accept accept-encoding accept-language cache-control content-type date pragma user-agent".split()
)
"""Headers that do not change the answer."""


class UnusualHeadError(Exception):
    """The head is not plain. It may still be valid HTTP."""


class PlainHead(NamedTuple):
    """The parts of a plain head that the front needs."""

    method: str
    path: str
    query: str
    length: int
    """The number of bytes in the body."""
    authorization: str
    """The value of the ``Authorization`` header. Empty: the request has none."""
    size: int
    """The number of bytes in the head, with its empty line."""


def read_head(received: bytearray) -> PlainHead | None:
    """Read the head at the beginning of ``received``. ``None`` if more bytes must arrive first.

    Raises :class:`UnusualHeadError`.
    """
    end = received.find(b"\r\n\r\n", 0, _MAX_HEAD)
    if end < 0:
        if len(received) >= _MAX_HEAD:
            raise UnusualHeadError
        return None
    text = bytes(received[:end])
    first, *lines = text.split(b"\r\n")
    if text.translate(None, _ALLOWED) or not text.count(b"\r") == text.count(b"\n") == len(lines):
        raise UnusualHeadError
    method, path, query = _request_line(first)
    length, authorization = _fields(lines)
    if (length is None) is (method == "POST"):
        raise UnusualHeadError
    return PlainHead(method, path, query, length or 0, authorization, end + 4)


def read_query(query: str) -> dict[str, str]:
    """Read a query. Raises :class:`UnusualHeadError` if a part is encoded, is not NAME=VALUE or repeats a name."""
    if "%" in query or "+" in query:
        raise UnusualHeadError
    parameters: dict[str, str] = {}
    for part in query.split("&") if query else ():
        name, equals, value = part.partition("=")
        if not equals or name in parameters:
            raise UnusualHeadError
        parameters[name] = value
    return parameters


def _request_line(line: bytes) -> tuple[str, str, str]:
    method, _, rest = line.partition(b" ")
    target, _, version = rest.partition(b" ")
    if method not in (b"GET", b"POST") or version != b"HTTP/1.1":
        raise UnusualHeadError
    if not target.startswith(b"/") or b"#" in target or b"\t" in target:
        raise UnusualHeadError
    path, _, query = target.decode("ascii").partition("?")
    return method.decode("ascii"), path, query


def _fields(lines: list[bytes]) -> tuple[int | None, str]:
    """The content length, and the authorization."""
    length: int | None = None
    authorization = ""
    hosts = 0
    for line in lines:
        name, colon, value = line.partition(b":")
        name, value = name.lower(), value.strip(b" \t")
        if not colon:
            raise UnusualHeadError
        if name == b"content-length" and length is None and value.isdigit() and len(value) <= _MAX_DIGITS:
            length = int(value)
        elif name == b"authorization" and not authorization and value:
            authorization = value.decode("ascii")
        elif name == b"host" and value:
            hosts += 1
        elif name not in _HARMLESS and (name, value.lower()) != (b"connection", b"keep-alive"):
            raise UnusualHeadError
    if hosts != 1:
        raise UnusualHeadError
    return length, authorization
