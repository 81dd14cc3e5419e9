"""Records of the paths that this peer has published: one small, synced file for each path."""

import contextlib
import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec
import structlog

from pantala_pieces import records
from pantala_pieces.errors import store_errors
from pantala_pieces.records import RecordError

_log = structlog.get_logger(__name__)


class PublicationRecord(msgspec.Struct, frozen=True):
    """What the peer published at one path."""

    path: str
    task_id: str
    inodes: tuple[int, ...]
    """Inode numbers of the peer's file at the path: first the current or next file, then its predecessor."""
    directories: tuple[str, ...]
    """The parent directories that the peer created. The peer removes them when they are empty."""


class PublicationRecords:
    """The records in one directory. The methods block, and raise :class:`StoreError`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._records: dict[str, PublicationRecord] = {}
        self._paths: dict[str, set[str]] = {}
        self._made: Counter[str] = Counter()

    def open(self) -> None:
        """Make the directory if it is missing, read the records, and remove records that a crash left half-written."""
        with store_errors(f"read {self._directory}"):
            self._directory.mkdir(mode=0o700, exist_ok=True)
            for unfinished in self._directory.glob(".*.new"):
                with contextlib.suppress(OSError):
                    unfinished.unlink()
            for file in sorted(self._directory.glob("*.json")):
                try:
                    record = records.load(file, PublicationRecord)
                except (RecordError, PermissionError) as error:
                    _log.error(
                        "a record of a published file cannot be used; the peer writes the record again",
                        error=str(error),
                    )
                    continue
                if self._file(record.path) == file:
                    self._remember(record)

    def __iter__(self) -> Iterator[PublicationRecord]:
        return iter(list(self._records.values()))

    def get(self, path: str) -> PublicationRecord | None:
        return self._records.get(path)

    def paths(self, task_id: str) -> list[str]:
        return sorted(self._paths.get(task_id, ()))

    def tasks(self) -> set[str]:
        """The tasks with published files."""
        return set(self._paths)

    def made(self, directory: str) -> bool:
        """True if the peer made a directory for a file that is still published."""
        return self._made[directory] > 0

    def keep(self, record: PublicationRecord) -> None:
        """Write a record, and sync it to the disk."""
        if self._records.get(record.path) != record:
            records.store(self._file(record.path), record)
            self._remember(record)

    def remove(self, path: str) -> None:
        with store_errors(f"remove the record of {path!r}"):
            self._file(path).unlink(missing_ok=True)
        self._forget(path)

    def _remember(self, record: PublicationRecord) -> None:
        self._forget(record.path)
        self._records[record.path] = record
        self._paths.setdefault(record.task_id, set()).add(record.path)
        self._made.update(record.directories)

    def _forget(self, path: str) -> None:
        record = self._records.pop(path, None)
        if record is None:
            return
        self._made.subtract(record.directories)
        self._paths[record.task_id].discard(path)
        if not self._paths[record.task_id]:
            del self._paths[record.task_id]

    def _file(self, path: str) -> Path:
        return self._directory / f"{hashlib.sha256(path.encode()).hexdigest()[:32]}.json"
