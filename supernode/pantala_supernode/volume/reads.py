"""Keeps on the volume how many bytes each namespace has read on this day, so that the numbers survive a restart."""

import asyncio
from pathlib import Path

import msgspec
import structlog

from pantala_pieces import records
from pantala_pieces.errors import StoreError
from pantala_protocol.rules.fields import Count
from pantala_supernode.tasks.accounts import Accounts

_log = structlog.get_logger(__name__)

_PAUSE = 2.0
"""Seconds between two writes. A crash forgets the reads since the last write."""


class StoredReads(msgspec.Struct, frozen=True):
    """The content of ``reads.json``."""

    day: Count
    """The day, in days since the epoch."""
    reads: dict[str, Count]
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
            self._written = records.load_pair(self._path, StoredReads)
        except FileNotFoundError:
            return
        except (OSError, records.RecordError) as error:
            _log.warning("cannot read today's use of quotas from the volume; it counts as 0", error=str(error))
        self._accounts.begin_day(self._written.day)
        self._accounts.restore(self._written.day, self._written.reads)

    async def run(self) -> None:
        """Continue the day of the last process. Then write the file after changes, until cancelled."""
        await asyncio.to_thread(self.restore)
        while True:
            await asyncio.sleep(_PAUSE)
            await self.write()

    async def write(self) -> None:
        current = StoredReads(self._accounts.day, self._accounts.reads())
        if current.reads and current != self._written:
            try:
                await asyncio.to_thread(records.store_pair, self._path, current)
                self._written = current
            except StoreError as error:
                _log.warning("cannot write today's use of quotas to the volume; a restart forgets it", error=str(error))
