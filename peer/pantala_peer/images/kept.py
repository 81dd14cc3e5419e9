"""The ledger on the disk, so that a new process goes on where the last one ended."""

from __future__ import annotations

from pathlib import Path

import msgspec
import structlog

from pantala_peer.images.ledger import Entry, Ledger
from pantala_pieces.errors import from_os_error
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
            kept = msgspec.json.decode(self._path.read_bytes(), type=_Kept)
        except FileNotFoundError:
            return Ledger()
        except OSError as error:
            raise from_os_error(error, f"read {self._path}") from error
        except msgspec.DecodeError as error:
            log.warning("the record of ordered images is left out; they are looked for anew", error=str(error))
            return Ledger()
        return Ledger(kept.entries, kept.pins)

    def write(self, content: bytes) -> None:
        """Write what :func:`render` made, durably."""
        write_atomically(self._path, content)


def render(ledger: Ledger) -> bytes:
    """The ledger as it is now."""
    return msgspec.json.encode(_Kept(list(ledger.entries.values()), sorted(ledger.pins)))
