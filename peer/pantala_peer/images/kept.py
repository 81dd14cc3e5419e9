"""The ledger on the disk, so that a new process goes on where the last one ended."""

from __future__ import annotations

import contextlib
from pathlib import Path

import msgspec
import structlog

from pantala_peer.images.ledger import Entry, Ledger
from pantala_pieces.errors import store_errors
from pantala_pieces.file import write_atomically

log = structlog.get_logger()


class _Kept(msgspec.Struct, frozen=True):
    entries: list[Entry]
    pins: list[str]


class LedgerFile:
    """One file. Blocking; raises :class:`StoreError`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> Ledger:
        """What was written last; an empty one if nothing was, or if it cannot be read."""
        try:
            with store_errors(f"read {self._path}"), contextlib.suppress(FileNotFoundError):
                kept = msgspec.json.decode(self._path.read_bytes(), type=_Kept)
                return Ledger(kept.entries, kept.pins)
        except msgspec.DecodeError as error:
            log.warning("ignored the record of ordered images, because it is not valid", error=str(error))
        return Ledger()

    def write(self, content: bytes) -> None:
        """Write what :func:`render` made, durably."""
        write_atomically(self._path, content)


def render(ledger: Ledger) -> bytes:
    """The ledger as it is now."""
    return msgspec.json.encode(_Kept(list(ledger.entries.values()), sorted(ledger.pins)))
