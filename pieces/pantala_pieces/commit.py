"""Combines the commits of several threads: one thread writes and syncs for all threads that wait."""

import copy
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import msgspec

from pantala_pieces.journal import JournalRecord


class Commit(msgspec.Struct, eq=False):
    """The records of one caller, from :meth:`GroupCommit.begin` on."""

    failures: int
    """How many syncs had failed when the caller began to write its bytes."""
    records: Sequence[JournalRecord] = ()
    done: bool = False
    error: Exception | None = None


class GroupCommit:
    """Makes the bytes of pieces durable, and then writes their records.

    ``sync`` makes all written bytes durable. ``write`` writes records, durably, and raises :class:`OSError`. One thread
    at a time calls them. If a sync fails, the disk may have lost any bytes that were written before. So each caller
    that began before the failure gets an error.
    """

    def __init__(self, sync: Callable[[], None], write: Callable[[Sequence[JournalRecord]], None]) -> None:
        self._sync = sync
        self._write = write
        self._turn = threading.Lock()
        self._lock = threading.Lock()
        self._queued: list[Commit] = []
        self._failures = 0
        self._failure: Exception | None = None

    def begin(self) -> Commit:
        """Call this before the bytes are written."""
        return Commit(self._failures)

    def end(self, commit: Commit, records: Sequence[JournalRecord]) -> None:
        """Return when this thread or another thread has written the records. Raises :class:`OSError`."""
        commit.records = records
        with self._lock:
            self._queued.append(commit)
        with self._turn:
            if not commit.done:
                self._carry_out()
        if commit.error is not None:
            raise copy.copy(commit.error) from commit.error  # each thread needs an error of its own

    @contextmanager
    def paused(self) -> Iterator[None]:
        """No record is written inside the block."""
        with self._turn:
            yield

    def _carry_out(self) -> None:
        with self._lock:
            commits, self._queued = self._queued, []
        try:
            self._sync()
        except Exception as error:  # the callers raise it
            self._failures += 1
            self._failure = error
        records: list[JournalRecord] = []
        for commit in commits:
            if commit.failures != self._failures:
                commit.error = self._failure
            else:
                records += commit.records
        try:
            self._write(records)
        except Exception as error:  # the callers raise it
            for commit in commits:
                commit.error = commit.error or error
        for commit in commits:
            commit.done = True
