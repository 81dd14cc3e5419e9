"""The pieces of all tasks on one disk."""

import contextlib
import errno
import stat
from collections.abc import Iterator
from pathlib import Path

import structlog

from pantala_pieces import records
from pantala_pieces.errors import DENIED, LOST, StoreError, store_errors
from pantala_pieces.file import PieceFile
from pantala_pieces.meta import Meta
from pantala_pieces.records import RecordError
from pantala_pieces.usage import Usage
from pantala_pieces.writing import set_aside, sync_directory
from pantala_protocol import task_id

_OURS = ("meta.json", ".meta.json.new", "journal", "parts", "data", "data.new")
_DATA = ("data", "journal", "parts")
_log = structlog.get_logger(__name__)


class PieceStore:
    """The directory ``root``, with one :class:`PieceFile` per task in ``<first two hex digits>/<task ID>``.

    The methods block and raise :class:`StoreError`. They do not change other files in the directory.
    """

    def __init__(self, root: Path, *, durable: bool, headroom: float = 0.0) -> None:
        """``headroom``: the percentage of the disk that must stay free."""
        self.root = root
        self._headroom = headroom
        self._durable = durable
        self._files: dict[str, PieceFile] = {}

    def open(self) -> list[PieceFile]:
        """Create the root if it is missing, and return its files. :meth:`PieceFile.verify` then finds their pieces."""
        with store_errors(f"open the store {self.root}"):
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._files = {file.meta.task_id: file for file in self._load()}
        return list(self._files.values())

    def __iter__(self) -> Iterator[PieceFile]:
        return iter(list(self._files.values()))

    def get(self, name: str) -> PieceFile | None:
        return self._files.get(name)

    def create(self, meta: Meta) -> PieceFile:
        """Create the :class:`PieceFile` of a task, without pieces. An existing file of the task is deleted."""
        self.delete(meta.task_id)
        directory = self._directory(meta.task_id)
        with store_errors(f"create {directory}"):
            directory.mkdir(mode=0o700, parents=True)
            if self._durable:
                sync_directory(directory.parent)
                sync_directory(self.root)
                sync_directory(self.root.parent)
        records.store(directory / "meta.json", meta, durable=self._durable)
        file = self._files[meta.task_id] = self._file(directory, meta)
        return file

    def delete(self, name: str) -> None:
        """Remove a task's pieces. Readers with an open data file can continue.

        The directory is renamed if it has something that Pantala did not write, or that cannot be removed.
        """
        file = self._files.pop(name, None)
        if file is not None:
            file.retire()
        directory = self._directory(task_id.parse(name))
        with store_errors(f"delete {directory}"), contextlib.suppress(FileNotFoundError):
            if stat.S_ISDIR(directory.lstat().st_mode):
                for part in _OURS:
                    try:
                        (directory / part).unlink()
                    except OSError as error:
                        if error.errno not in LOST | DENIED | {errno.EISDIR}:
                            raise
            try:
                directory.rmdir()
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                    raise
                set_aside(directory)
                _log.warning(
                    "cannot remove all files of a deleted task; renamed its directory, which you can remove", task=name
                )

    def usage(self) -> Usage:
        """The room of the disk that has the store."""
        with store_errors(f"read the usage of the disk of {self.root}"):
            return Usage.of(self.root, self._headroom)

    def close(self) -> None:
        """Close all file descriptors."""
        for file in self._files.values():
            file.close()

    def _directory(self, name: str) -> Path:
        return self.root / name[:2] / name

    def _load(self) -> Iterator[PieceFile]:
        for directory in self._directories():
            try:
                name = task_id.parse(directory.name)
            except ValueError:
                continue
            try:
                meta = _read_meta(directory)
            except FileNotFoundError:  # a crash has interrupted its creation or deletion
                self._remove(name)
            except (RecordError, PermissionError) as error:
                _log.error("the record of a copy is unusable; the copy is fetched again", task=name, error=str(error))
                self._remove(name)
            else:
                yield self._file(directory, meta)

    def _directories(self) -> Iterator[Path]:
        """The directories that may be copies, of all folders that the disk can read."""
        for folder in sorted(self.root.glob("[0-9a-f][0-9a-f]")):
            try:
                yield from sorted(folder.iterdir())
            except NotADirectoryError:
                continue
            except OSError as error:
                if error.errno not in LOST | DENIED:
                    raise
                _log.error("a folder cannot be read; its copies are fetched again", error=str(error))

    def _remove(self, name: str) -> None:
        """Remove a copy that is not usable. If the disk does not allow it, the other copies are usable all the same."""
        try:
            self.delete(name)
        except StoreError as error:
            _log.error("an unusable copy cannot be removed from the disk", task=name, error=str(error))

    def _file(self, directory: Path, meta: Meta) -> PieceFile:
        file = PieceFile(directory, meta, durable=self._durable, headroom=self._headroom)
        file.used = (directory / "meta.json").stat().st_mtime
        return file


def _read_meta(directory: Path) -> Meta:
    """The metadata in a task's directory. Raises :class:`RecordError`, also if a file of it is not a regular file."""
    try:
        usual = stat.S_ISDIR(directory.lstat().st_mode) and all(records.is_regular(directory / name) for name in _DATA)
    except OSError as error:
        if error.errno not in LOST or isinstance(error, FileNotFoundError):
            raise
        raise RecordError(f"the disk has lost the directory of the copy, or a file in it: {error.strerror}") from error
    if not usual:
        raise RecordError("it is not a directory, or one of its files is not a regular file")
    meta = records.load(directory / "meta.json", Meta)
    if meta.task_id != directory.name:
        raise RecordError("it belongs to another task")
    return meta
