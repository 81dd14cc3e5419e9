"""Keeps on the volume how many bytes each namespace has read in this day, so that a restart does not forget it."""

import asyncio
from pathlib import Path

import msgspec
import structlog

from pantala_pieces.errors import StoreError
from pantala_pieces.writing import write_atomically
from pantala_supernode.tasks.accounts import Accounts

_log = structlog.get_logger(__name__)

_PAUSE = 2.0
"""Seconds between two writes. A crash forgets what was read since the last one."""


class StoredReads(msgspec.Struct, frozen=True):
    """The content of ``reads.json``."""

    day: int
    """In days since the epoch."""
    reads: dict[str, int]
    """The bytes that were read, by namespace."""


class DailyReads:
    """The file with the reads of the day. A file that is not valid counts as empty."""

    def __init__(self, path: Path, accounts: Accounts) -> None:
        self._path = path
        self._accounts = accounts
        self._written = StoredReads(0, {})

    def restore(self) -> None:
        """Continue the day of the last process. Blocks."""
        try:
            self._written = msgspec.json.decode(self._path.read_bytes(), type=StoredReads)
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            _log.warning("the reads of today on the volume cannot be read; they count as 0", error=str(error))
        self._accounts.begin_day(self._written.day)
        self._accounts.restore(self._written.day, self._written.reads)

    async def run(self) -> None:
        """Continue the day of the last process. Then write the file after changes, until cancelled."""
        await asyncio.to_thread(self.restore)
        while True:
            await asyncio.sleep(_PAUSE)
            await self.write()

    async def write(self) -> None:
        """Write the file if anything was read since the last time."""
        current = StoredReads(self._accounts.day, self._accounts.reads())
        if current.reads and current != self._written:
            try:
                await asyncio.to_thread(write_atomically, self._path, msgspec.json.encode(current))
                self._written = current
            except StoreError as error:
                _log.warning("cannot write the reads of today; a restart would forget them", error=str(error))
