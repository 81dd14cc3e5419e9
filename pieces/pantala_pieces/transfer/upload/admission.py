"""Decides whether a request gets a piece: checks its ticket and its range, and whether this process has the bytes."""

import re
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import NamedTuple

import msgspec
from cachetools import LRUCache

from pantala_pieces.errors import PieceMissingError
from pantala_pieces.file import PieceFile
from pantala_pieces.transfer.upload.fetches import PieceFetch
from pantala_pieces.transfer.upload.heads import PieceRefusedError, PieceRoute, RequestHead, piece_head, route
from pantala_protocol import ticket
from pantala_protocol.geometry import HEAD, TAIL, Wrapping

_RANGE = re.compile(rb"bytes=([0-9]{1,18})-([0-9]{1,18})")

_MOST_GRANTS = 4096
"""The most valid tickets in the cache, without the marks of their readers. Without a key, no entry can be added."""


class PieceAnswer(msgspec.Struct, frozen=True):
    """The answer to one request: ``before``, then ``size`` bytes of a file from ``offset`` on, then ``after``."""

    file: PieceFile
    offset: int
    size: int
    before: bytes
    after: bytes
    fetch: PieceFetch
    keep: bool
    """True if the connection stays open after the answer."""

    @property
    def counted(self) -> int:
        """The bytes of the answer's body."""
        return self.size if not self.after else self.size + HEAD + len(self.after)


class _Grant(NamedTuple):
    """A ticket that was verified."""

    key: bytes
    expiry: int


class Admission:
    """Checks requests. Only one thread may use this object.

    ``lookup`` finds a task's file. ``keys`` returns the ticket keys of all supernodes. ``clock`` returns seconds since
    the epoch. A verified ticket is cached until it expires, so most requests need no HMAC.
    """

    def __init__(
        self,
        lookup: Callable[[str], PieceFile | None],
        *,
        keys: Callable[[], Iterable[bytes]],
        clock: Callable[[], float],
    ) -> None:
        self._lookup = lookup
        self._keys = keys
        self._clock = clock
        self._grants: LRUCache[tuple[str, str, str, str], _Grant] = LRUCache(_MOST_GRANTS)

    def admit(self, head: RequestHead, client: str = "") -> PieceAnswer:
        """What to send for a request. ``client``: the name in the client's certificate; empty on plain HTTP.

        Raises :class:`PieceRefusedError`.
        """
        now = self._clock()
        found = route(head)
        self._check(found, client, now)
        file = self._lookup(found.task_id)
        if file is None or file.meta.generation != found.generation:
            raise _not_held("This provider does not have this generation of the task.")
        file.used = now
        reader = ticket.reader(found.ticket)
        return _wrapped(head, reader, file) if found.wrapped else _native(head, reader, file)

    def _check(self, found: PieceRoute, client: str, now: float) -> None:
        """Verify the ticket of a request, and cache it without the mark of its reader."""
        name = found.task_id, found.generation, found.ticket.rpartition("-")[2], client
        grant = self._grants.get(name)
        if grant is not None and now <= grant.expiry and grant.key in self._keys():
            return
        for key in self._keys():
            if ticket.check(key, found.task_id, found.generation, found.ticket, now=now, client=client):
                self._grants[name] = _Grant(key, ticket.expiry(found.ticket))
                return
        text = "The request's ticket is missing, wrong, expired, or for another client."
        raise PieceRefusedError(HTTPStatus.FORBIDDEN, "TicketInvalid", text)


def _native(head: RequestHead, reader: str, file: PieceFile) -> PieceAnswer:
    match = _RANGE.fullmatch(head.range)
    if match is None:
        raise _range_invalid("The Range header is not valid. Give bytes=FIRST-LAST.")
    first, end = int(match[1]), int(match[2]) + 1
    if end <= first:
        raise _range_invalid("The Range header is not valid. Its last byte is before its first.")
    if not file.holds(first, end):
        raise _not_held("This provider does not have all pieces of the range.")
    fetch = PieceFetch(reader, file.meta.task_id, first // file.meta.piece_size)
    before = piece_head(first, end - first, file.meta.length, head)
    return PieceAnswer(file, first, end - first, before, b"", fetch, head.keep)


def _wrapped(head: RequestHead, reader: str, file: PieceFile) -> PieceAnswer:
    wrapping = Wrapping(file.meta.piece_size)
    unit, _, text = head.range.decode("latin-1").partition("=")
    try:
        piece = wrapping.piece(text if unit == "bytes" else "")
        size = file.size(piece)
    except ValueError as error:
        raise _range_invalid(str(error)) from None
    except PieceMissingError:
        raise _not_held("This provider does not have the piece.") from None
    before = piece_head(piece * wrapping.wire_size, size + HEAD + len(TAIL), None, head) + wrapping.head(size)
    fetch = PieceFetch(reader, file.meta.task_id, piece)
    return PieceAnswer(file, piece * file.meta.piece_size, size, before, TAIL, fetch, head.keep)


def _not_held(text: str) -> PieceRefusedError:
    return PieceRefusedError(HTTPStatus.NOT_FOUND, "NotHeld", text)


def _range_invalid(text: str) -> PieceRefusedError:
    return PieceRefusedError(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, "RangeInvalid", text)
