"""Records on the volume which blobs are kept, and when peers last waited for them. The next process reads this."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import structlog

from pantala_pieces import records
from pantala_pieces.errors import StoreError
from pantala_pieces.records import RecordError
from pantala_protocol import digest
from pantala_supernode.images.blob import KeptBlob
from pantala_supernode.images.leases import BlobLeases

_log = structlog.get_logger(__name__)

_LOOK = 1.0
"""Seconds between two checks for changes. Blobs that a crash leaves unrecorded are not kept."""
_STAMP = 60.0
"""The most seconds by which a recorded time is too old. Exact times would need a write at each check."""
_PAUSE = 60.0
"""Seconds from a failed write to the next attempt."""


class _Entry(msgspec.Struct, frozen=True):
    generation: str
    wanted: float
    """When a peer last waited for the blob, in seconds since the epoch."""


_Entries = dict[str, _Entry]
"""The recorded blobs by digest."""


class BlobLedger:
    """Keeps the file ``path`` up to date with the kept blobs. It does not record which peers may read them.

    If the file is lost, blobs are read from their registries again. ``wall`` returns seconds since the epoch.
    """

    def __init__(self, path: Path, leases: BlobLeases, *, wall: Callable[[], float]) -> None:
        self._path = path
        self._leases = leases
        self._wall = wall
        self._written: _Entries = {}
        self._turn = threading.Lock()

    async def restore(self) -> None:
        self._written = await asyncio.to_thread(self._read)
        now = self._wall()
        self._leases.restore(
            tuple(KeptBlob(name, entry.generation, now - entry.wanted) for name, entry in self._written.items())
        )

    async def run(self) -> None:
        """Write the file after changes until cancelled, and once more at the end."""
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
        return {kept.digest: _Entry(kept.generation, now - kept.idle) for kept in self._leases.kept()}

    def _read(self) -> _Entries:
        try:
            entries = records.load_pair(self._path, _Entries)
        except FileNotFoundError:
            return {}
        except (OSError, RecordError) as error:
            _log.warning("cannot read the list of cached blobs; fetching the blobs again", error=str(error))
            return {}
        return {name: entry for name, entry in entries.items() if _is_digest(name)}

    def _write(self, entries: _Entries) -> bool:
        with self._turn:  # the last write may start while another write runs
            if entries == self._written:
                return True
            try:
                records.store_pair(self._path, entries)
            except StoreError as error:
                _log.warning("cannot write the list of cached blobs; a restart fetches them again", error=str(error))
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
