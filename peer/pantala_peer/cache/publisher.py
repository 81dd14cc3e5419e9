"""Publishes whole files at their paths below one root, each atomically. It never changes a foreign file.

A file is the peer's own if a record names its path and its inode. All other files are *foreign*. A record is written
before the path changes. So a crash leaves at most a record without a file, and empty folders that the record names. The
next start removes both. A foreign file with exactly the published content satisfies a delivery, and stays foreign.
"""

import contextlib
import os
import secrets
import stat
from pathlib import Path
from typing import NamedTuple

from msgspec import structs

from pantala_peer.cache.records import PublicationRecord, PublicationRecords
from pantala_peer.cache.tree import FileAccess, FileTree, look
from pantala_peer.errors import OutsideRootError, PathConflictError
from pantala_pieces.descriptor import opened
from pantala_pieces.digests import sha256_of
from pantala_pieces.errors import StoreError, store_errors
from pantala_protocol.rules import names


def components(path: str) -> list[str]:
    """Split a path into names. Raises :class:`OutsideRootError` unless it is a plain path below the root."""
    fault = names.fault(path)
    if fault is not None:
        raise OutsideRootError(f"The path {path[:100]!r} {fault}.")
    return path.split("/")


class PublicationRequest(NamedTuple):
    """One file to publish."""

    path: str
    task_id: str
    source: Path
    """A synced file on the root's filesystem, to which the peer never writes again."""
    sha256: str
    """The digest of the source, in hex."""


class Publisher:
    """Publishes below ``root / "files"``, with records in ``root / "published"``.

    The methods block, and raise :class:`StoreError` if the disk fails. Call them from one thread at a time.
    """

    def __init__(self, root: Path, access: FileAccess | None = None) -> None:
        self._files = root / "files"
        self._access = access or FileAccess()
        self._tree = FileTree(self._files, self._access)
        self._records = PublicationRecords(root / "published")
        self._same: dict[str, tuple[str, tuple[int, int, int]]] = {}

    def open(self) -> None:
        """Begin as :meth:`tidy`, and give published files the configured access."""
        self.tidy()
        for record in self._records:
            self._grant_again(record)

    def tidy(self) -> None:
        """Make missing directories, read the records, and remove what a crash has left."""
        self._records.open()
        with store_errors(f"open {self._files}"):
            self._files.mkdir(mode=0o755, exist_ok=True)
        for record in self._records:
            with contextlib.suppress(OSError, StoreError, OutsideRootError, PathConflictError):
                self._remove_temporary(record)
            with contextlib.suppress(OSError, StoreError, OutsideRootError, PathConflictError):
                if not self._in_place(record):
                    self.unpublish(record.path)

    def paths(self, task_id: str) -> list[str]:
        return self._records.paths(task_id)

    def tasks(self) -> set[str]:
        """The tasks with published files."""
        return self._records.tasks()

    def publish(self, request: PublicationRequest) -> None:
        """Publish a file, unless the path already has its content. Raises :class:`DeliveryError`."""
        path = request.path
        *parents, _ = components(path)
        record = self._records.get(path)
        with store_errors(f"publish {path!r}"):
            if record is not None and record.task_id != request.task_id and self._in_place(record):
                raise PathConflictError(f"The file of another Task is at {path!r} on the node.")
            missing = self._tree.missing(parents)
            if missing:  # before they are made, so that no crash leaves a directory without a record
                self._records.keep(self._record(request, (request.source.stat().st_ino,), missing))
            try:
                with self._tree.folder(parents, make=True) as directory:
                    self._link(request, directory)
            except BaseException:
                self._tree.remove_empty(parents, missing)
                if missing and record is None:
                    self._records.remove(path)
                raise

    def unpublish(self, path: str) -> None:
        """Remove the peer's file at ``path``, and its empty directories that the peer made. A foreign file stays."""
        record = self._records.get(path)
        if record is None:
            return
        gone = contextlib.suppress(FileNotFoundError, OutsideRootError, PathConflictError)
        *parents, name = components(path)
        with store_errors(f"remove the published file {path!r}"):
            with gone, self._tree.folder(parents, make=False) as directory:
                there = look(directory, name)
                if there is not None and there.st_ino in record.inodes:
                    os.unlink(name, dir_fd=directory)
                    os.fsync(directory)
            self._tree.remove_empty(parents, record.directories)
        self._records.remove(path)

    def _link(self, request: PublicationRequest, directory: int) -> None:
        path, source = request.path, request.source
        inode, size = source.stat().st_ino, source.stat().st_size
        there = look(directory, path.rpartition("/")[2])
        record = self._records.get(path)
        if there is None:
            self._put(source, directory, self._record(request, (inode,)), replace=False)
        elif there.st_ino == inode:
            self._records.keep(self._record(request, (inode,)))
        elif record is not None and there.st_ino in record.inodes:
            self._put(source, directory, self._record(request, (inode, there.st_ino)), replace=True)
        elif there.st_size != size or not self._is_same(path, directory, there, request.sha256):
            raise PathConflictError(f"A file that the peer did not create is at {path!r} on the node.")

    def _put(self, source: Path, directory: int, record: PublicationRecord, *, replace: bool) -> None:
        """Write the record, then link the file. Without ``replace``, a file that has appeared at the path stays."""
        name = record.path.rpartition("/")[2]
        with opened(source) as file:
            self._access.grant(file, self._access.file)
        self._records.keep(record)
        if not replace:
            try:
                os.link(source, name, dst_dir_fd=directory, follow_symlinks=False)
            except FileExistsError:
                raise PathConflictError(f"Another file has appeared at {record.path!r} on the node.") from None
        else:
            temporary = names.RESERVED + secrets.token_hex(8)
            os.link(source, temporary, dst_dir_fd=directory, follow_symlinks=False)
            os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
        os.fsync(directory)
        self._records.keep(structs.replace(record, inodes=record.inodes[:1]))

    def _in_place(self, record: PublicationRecord) -> bool:
        *parents, name = record.path.split("/")
        try:
            with self._tree.folder(parents, make=False) as directory:
                there = look(directory, name)
        except (FileNotFoundError, OutsideRootError, PathConflictError):
            return False
        return there is not None and there.st_ino in record.inodes

    def _is_same(self, path: str, directory: int, there: os.stat_result, sha256: str) -> bool:
        """True if a foreign file of the right size has this digest, and the peer may read it.

        It is read again only after it has changed. The size comes first: to read a huge sparse file takes hours.
        """
        if not stat.S_ISREG(there.st_mode):
            return False
        key = (there.st_ino, there.st_size, there.st_mtime_ns)
        known = self._same.get(path)
        if known is None or known[1] != key:
            try:
                with (
                    opened(path.rpartition("/")[2], directory=directory) as fd,
                    os.fdopen(fd, "rb", closefd=False) as file,
                ):
                    known = self._same[path] = (sha256_of(file, there.st_size), key)
            except PermissionError:
                return False
        return known[0] == sha256

    def _remove_temporary(self, record: PublicationRecord) -> None:
        """Remove the temporary file that remains after a crash during a replacement."""
        if len(record.inodes) < 2:
            return
        with self._tree.folder(record.path.split("/")[:-1], make=False) as directory:
            for name in [entry.name for entry in os.scandir(directory)]:
                there = look(directory, name) if name.startswith(names.RESERVED) else None
                if there is not None and there.st_ino in record.inodes:
                    os.unlink(name, dir_fd=directory)

    def _grant_again(self, record: PublicationRecord) -> None:
        """Give the peer's file and folders the configured access, which may have changed since their publication."""
        *parents, name = record.path.split("/")
        with contextlib.suppress(OSError, OutsideRootError, PathConflictError):
            for depth in range(1, len(parents) + 1):
                if "/".join(parents[:depth]) in record.directories:
                    with self._tree.folder(parents[:depth], make=False) as directory:
                        self._access.grant(directory, self._access.directory)
            with self._tree.folder(parents, make=False) as directory:
                there = look(directory, name)
                if there is not None and there.st_ino in record.inodes:
                    with opened(name, directory=directory) as file:
                        self._access.grant(file, self._access.file)

    def _record(
        self, request: PublicationRequest, inodes: tuple[int, ...], missing: tuple[str, ...] = ()
    ) -> PublicationRecord:
        """Make the record. It names the directories on the path that the peer makes, for their later removal."""
        above = request.path.split("/")[:-1]
        parents = ("/".join(above[:depth]) for depth in range(1, len(above) + 1))
        ours = tuple(parent for parent in parents if parent in missing or self._records.made(parent))
        return PublicationRecord(request.path, request.task_id, inodes, ours)
