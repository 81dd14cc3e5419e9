"""Which blobs are kept and when they were wanted last, on the volume: another process goes on keeping them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import msgspec
import structlog

from pantala_pieces.errors import StoreError
from pantala_pieces.file import write_atomically
from pantala_protocol import digest
from pantala_supernode.images.blobs import KeptBlob

_log = structlog.get_logger(__name__)

_LOOK = 1.0
"""Seconds between two looks: so young a blob is forgotten by a crash."""
_STAMP = 60.0
"""Seconds by which a blob is said to be wanted earlier than it was, at most: else each look would write."""
_PAUSE = 60.0
"""Seconds before a volume that could not be written to is tried again."""


class Keeping(Protocol):
    """Who keeps blobs."""

    def kept(self) -> tuple[KeptBlob, ...]:
        """All that is to be kept."""

    def restore(self, kept: tuple[KeptBlob, ...]) -> None:
        """Keep it again."""


class _Entry(msgspec.Struct, frozen=True):
    generation: str
    wanted: float
    """In seconds since the epoch."""


_Entries = dict[str, _Entry]
"""By digest."""


class BlobLedger:
    """The file ``path``. Who may have a blob is not in it: that is for the registries to say, each time anew.

    Nothing depends on it: without it a blob is read of its registry once more. ``wall`` tells seconds since the epoch.
    """

    def __init__(self, path: Path, keeping: Keeping, *, wall: Callable[[], float]) -> None:
        self._path = path
        self._keeping = keeping
        self._wall = wall
        self._written: _Entries = {}
        self._turn = threading.Lock()

    async def restore(self) -> None:
        """Have kept what the last process kept."""
        self._written = await asyncio.to_thread(self._read)
        now = self._wall()
        self._keeping.restore(
            tuple(KeptBlob(name, entry.generation, now - entry.wanted) for name, entry in self._written.items())
        )

    async def run(self) -> None:
        """Write what changes, until cancelled; then once more."""
        try:
            while True:
                await asyncio.sleep(_LOOK)
                entries = self._entries()
                if _differ(entries, self._written) and not await asyncio.to_thread(self._write, entries):
                    await asyncio.sleep(_PAUSE)
        finally:
            self._write(self._entries())

    def _entries(self) -> _Entries:
        now = self._wall()
        return {kept.digest: _Entry(kept.generation, now - kept.idle) for kept in self._keeping.kept()}

    def _read(self) -> _Entries:
        try:
            entries = msgspec.json.decode(self._path.read_bytes(), type=_Entries)
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.DecodeError) as error:
            _log.warning("it is not known which blobs were kept; they are fetched again", error=str(error))
            return {}
        return {name: entry for name, entry in entries.items() if _is_digest(name)}

    def _write(self, entries: _Entries) -> bool:
        with self._turn:  # the last one may come while another goes on
            if entries == self._written:
                return True
            try:
                write_atomically(self._path, msgspec.json.encode(entries))
            except StoreError as error:
                _log.warning("cannot note which blobs are kept; another process fetches them again", error=str(error))
                return False
            self._written = entries
            return True


def _differ(now: _Entries, before: _Entries) -> bool:
    return now.keys() != before.keys() or any(
        entry.generation != before[name].generation or abs(entry.wanted - before[name].wanted) >= _STAMP
        for name, entry in now.items()
    )


def _is_digest(text: str) -> bool:
    try:
        digest.parse(text)
    except ValueError:
        return False
    return True
