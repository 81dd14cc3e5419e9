"""The requests for pieces that a process answers: counters, and events for the event loop."""

import threading
from collections.abc import Callable, Sequence
from enum import Enum, auto

import msgspec

from pantala_pieces.transfer.mailbox import Mailbox

_JOIN = 0.02
"""Seconds for which events are collected, so that the loop is not woken for each piece."""


class FetchState(Enum):
    """How far the answer to a request for a piece is."""

    BEGUN = auto()
    SENT = auto()
    """All bytes were handed to the network."""
    BROKEN = auto()


class PieceFetch(msgspec.Struct, frozen=True):
    """One request for a piece."""

    reader: str
    """The mark in the ticket that stands for the client. Empty: the ticket has no mark."""
    task_id: str
    piece: int


class FetchLog:
    """Counts fetches, and calls ``on_fetch`` and ``on_missing`` in the event loop. Any thread may use it."""

    def __init__(
        self, on_fetch: Callable[[PieceFetch, FetchState], None] | None, on_missing: Callable[[str], None] | None
    ) -> None:
        self.uploads = 0
        """The number of pieces that are being sent now."""
        self.bytes_sent = 0
        """The bytes of all answers that were sent completely."""
        self._on_fetch = on_fetch
        self._on_missing = on_missing
        self._lock = threading.Lock()
        self._fetches: Mailbox[tuple[PieceFetch, FetchState]] | None = None
        self._missing: Mailbox[str] | None = None

    def open(self) -> None:
        """Deliver events to the running event loop from now on."""
        if self._on_fetch is not None:
            self._fetches = Mailbox(self._report, join=_JOIN)
        self._missing = Mailbox(self._report_missing)

    def wait(self, fetch: PieceFetch) -> None:
        """Report that a fetch waits for a slot."""
        self._note(fetch, FetchState.BEGUN)

    def give_up(self, fetch: PieceFetch) -> None:
        """Report that a fetch got no slot, or that its connection broke while its answer was parked."""
        self._note(fetch, FetchState.BROKEN)

    def begin(self) -> None:
        """Count a piece that is being sent now."""
        with self._lock:
            self.uploads += 1

    def pause(self) -> None:
        """Count that an answer is parked. Its fetch has not ended."""
        with self._lock:
            self.uploads -= 1

    def end(self, fetch: PieceFetch, size: int) -> None:
        """Count and report the end of an upload. ``size``: the bytes of a whole answer. 0: the upload broke."""
        with self._lock:
            self.uploads -= 1
            self.bytes_sent += size
        self._note(fetch, FetchState.SENT if size else FetchState.BROKEN)

    def missing(self, task_id: str) -> None:
        """Report that a task's data file is missing or cannot be read, although it has verified pieces."""
        if self._missing is not None:
            self._missing.post(task_id)

    def _note(self, fetch: PieceFetch, state: FetchState) -> None:
        if self._fetches is not None and fetch.reader:
            self._fetches.post((fetch, state))

    def _report(self, posted: Sequence[tuple[PieceFetch, FetchState]]) -> None:
        if self._on_fetch is not None:
            for fetch, state in posted:
                self._on_fetch(fetch, state)

    def _report_missing(self, posted: Sequence[str]) -> None:
        if self._on_missing is not None:
            for task_id in dict.fromkeys(posted):
                self._on_missing(task_id)
