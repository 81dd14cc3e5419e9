"""The pieces of all tasks on one disk."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from pantala_pieces.errors import store_errors
from pantala_pieces.file import Meta, PieceFile
from pantala_pieces.writing import sync_directory, write_atomically
from pantala_protocol import task_id

_OURS = ("meta.json", ".meta.json.new", "journal", "parts", "data", "data.new")


class Usage(NamedTuple):
    """The free and the total room of the disk that has the store, in bytes."""

    free: int
    total: int


class PieceStore:
    """The directory ``root``, with one :class:`PieceFile` per task in ``<first two hex digits>/<task ID>``.

    The methods block and raise :class:`StoreError`. Other files in the directory are not touched.
    """

    def __init__(self, root: Path, *, durable: bool) -> None:
        self.root = root
        self._durable = durable
        self._files: dict[str, PieceFile] = {}

    def open(self) -> list[PieceFile]:
        """Make the root if it is missing, and return its files. They hold no pieces before :meth:`PieceFile.verify`."""
        with store_errors(f"open the store {self.root}"):
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self._durable:
                sync_directory(self.root.parent)
            self._files = {file.meta.task_id: file for file in self._load()}
        return list(self._files.values())

    def __iter__(self) -> Iterator[PieceFile]:
        return iter(list(self._files.values()))

    def get(self, name: str) -> PieceFile | None:
        return self._files.get(name)

    def create(self, meta: Meta) -> PieceFile:
        """Create the :class:`PieceFile` of a task, without pieces. An existing one is deleted."""
        self.delete(meta.task_id)
        directory = self._directory(meta.task_id)
        with store_errors(f"create {directory}"):
            directory.mkdir(mode=0o700, parents=True)
            if self._durable:
                sync_directory(directory.parent)
                sync_directory(self.root)
        write_atomically(directory / "meta.json", msgspec.json.encode(meta), durable=self._durable)
        file = self._files[meta.task_id] = self._file(directory, meta)
        return file

    def delete(self, name: str) -> None:
        """Remove a task's pieces. Readers with an open data file can continue."""
        file = self._files.pop(name, None)
        if file is not None:
            file.retire()
        directory = self._directory(task_id.parse(name))
        with store_errors(f"delete {directory}"):
            for part in _OURS:
                with contextlib.suppress(FileNotFoundError):
                    (directory / part).unlink()
            with contextlib.suppress(FileNotFoundError):
                directory.rmdir()

    def usage(self) -> Usage:
        """The total bytes of the disk, and those that are free for unprivileged processes."""
        with store_errors(f"read the usage of the disk of {self.root}"):
            stat = os.statvfs(self.root)
        return Usage(stat.f_bavail * stat.f_frsize, stat.f_blocks * stat.f_frsize)

    def close(self) -> None:
        """Close all file descriptors."""
        for file in self._files.values():
            file.close()

    def _directory(self, name: str) -> Path:
        return self.root / name[:2] / name

    def _load(self) -> Iterator[PieceFile]:
        for directory in sorted(self.root.glob("[0-9a-f][0-9a-f]/*")):
            try:
                name = task_id.parse(directory.name)
            except ValueError:
                continue
            try:
                meta = msgspec.json.decode((directory / "meta.json").read_bytes(), type=Meta)
            except (FileNotFoundError, msgspec.DecodeError):
                meta = None
            if meta is None or meta.task_id != name or meta.piece_size <= 0:
                self.delete(name)  # a crash has interrupted its creation or deletion
            else:
                yield self._file(directory, meta)

    def _file(self, directory: Path, meta: Meta) -> PieceFile:
        file = PieceFile(directory, meta, durable=self._durable)
        file.used = (directory / "meta.json").stat().st_mtime
        return file
