"""The request for one piece, and the check of the answer's head."""

from __future__ import annotations

import re
from functools import lru_cache

import msgspec

from pantala_pieces.transfer.errors import CorruptError, MissingError, ProviderRefusedError
from pantala_protocol import ticket
from pantala_protocol.geometry import HEAD, OVERHEAD
from pantala_protocol.sync import PieceWork

ANSWER_HEAD = (
    b"HTTP/1.1 206 Partial Content\r\nContent-Type: application/octet-stream\r\n"
    b"Content-Length: %d\r\nContent-Range: bytes %d-%d/"
)
"""How the head of a supernode's or a peer's answer begins. The length of the file follows."""

_RANGE = b"Range: bytes=%d-%d\r\n\r\n"
"""The end of a request."""

_MOST_KNOWN = 256
"""The most beginnings of requests in the cache: one for each task and provider."""

_STATUS = re.compile(rb"HTTP/1\.1 ([0-9]{3})(?: [^\r\n]*)?")
_PRINTABLE = re.compile(r"[!-~]{1,512}")
"""Matches a text that may be in a request line or a header."""


class PieceRequest(msgspec.Struct, frozen=True):
    """One request for a piece: the text to send, and the requested range."""

    text: bytes
    first: int
    size: int
    skip: int = 0
    """The bytes of the answer before the piece. Dragonfly's clients send a header with each piece."""
    ranged: bool = True
    """True if the answer must have a ``Content-Range``. Dragonfly's clients do not send one."""

    @classmethod
    def of(cls, work: PieceWork) -> PieceRequest:
        """The request for the piece of ``work``. Raises :class:`ProviderRefusedError` for text that HTTP forbids."""
        if work.path:
            first, size = work.piece * work.wire_size, work.size + OVERHEAD
            headers = f"pieceNum: {work.piece}\r\npieceSize: {work.wire_size}\r\n"
            text = _begin(work.path, work.host, work.port, headers) + _RANGE % (first, first + size - 1)
            return cls(text, first, size, skip=HEAD, ranged=False)
        first, size = work.offset, work.size
        begin = _native(work.task_id, work.generation, work.ticket, work.host, work.port)
        return cls(begin + _RANGE % (first, first + size - 1), first, size)

    def check_head(self, head: bytes) -> bool:
        """Check the head of the answer, without its empty line. Returns True if the connection stays open.

        Only a 206 with exactly the requested range and a Content-Length is accepted. Raises :class:`FetchError`.
        """
        usual = ANSWER_HEAD % (self.size, self.first, self.first + self.size - 1)
        if self.ranged and head.startswith(usual) and head[len(usual) :].isdigit():
            return True
        return self._check_unusual(head)

    def _check_unusual(self, head: bytes) -> bool:
        status_line, *lines = head.split(b"\r\n")
        status = _STATUS.fullmatch(status_line)
        if status is None:
            raise CorruptError("the provider's answer is not HTTP/1.1")
        _check_status(int(status[1]))
        fields = _fields(lines)
        if b"transfer-encoding" in fields or b"content-encoding" in fields:
            raise CorruptError("the provider's answer is encoded, but pieces must not be encoded")
        if fields.get(b"content-length") != b"%d" % self.size:
            raise CorruptError(f"the provider's answer does not have the requested {self.size} bytes")
        expected = b"bytes %d-%d/" % (self.first, self.first + self.size - 1)
        if self.ranged and not fields.get(b"content-range", b"").startswith(expected):
            raise CorruptError("the provider's answer does not have the requested range")
        return fields.get(b"connection", b"").lower() != b"close"


@lru_cache(_MOST_KNOWN)
def _native(task_id: str, generation: str, shown: str, host: str, port: int) -> bytes:
    """The beginning of a request to a peer or supernode. It is the same for all pieces of a task."""
    _check(task_id, generation, shown)
    return _begin(f"/pieces/{task_id}/{generation}", host, port, f"{ticket.HEADER}: {shown}\r\n")


def _begin(path: str, host: str, port: int, headers: str) -> bytes:
    _check(path, host)
    shown = f"[{host}]" if ":" in host else host
    return f"GET {path} HTTP/1.1\r\nHost: {shown}:{port}\r\n{headers}".encode("ascii")


def _check(*texts: str) -> None:
    for text in texts:
        if _PRINTABLE.fullmatch(text) is None:
            raise ProviderRefusedError("the supernode's work for the piece has characters that HTTP forbids")


def _check_status(status: int) -> None:
    if status == 206:
        return
    if status == 404:
        raise MissingError("the provider does not have the piece")
    if status == 403:
        raise ProviderRefusedError("the provider does not accept the ticket")
    raise ProviderRefusedError(f"the provider answered {status}")


def _fields(lines: list[bytes]) -> dict[bytes, bytes]:
    fields: dict[bytes, bytes] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not name or name != name.strip() or b"\n" in line or b"\r" in line:
            raise CorruptError("the headers of the provider's answer are not valid")
        name = name.lower()
        if name in (b"content-length", b"content-range") and name in fields:
            raise CorruptError("the provider's answer states its length or its range twice")
        fields[name] = value.strip()
    return fields
