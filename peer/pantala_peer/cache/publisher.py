"""Publishes whole files at their paths below one root, each atomically. It never changes a foreign file.

A file is the peer's own if a record names its path and its inode. All other files are *foreign*. A record is written
before the path changes. So a crash leaves at most a record without a file, which is harmless. A foreign file with
exactly the published content satisfies a delivery, and stays foreign.
"""

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from msgspec import structs

from pantala_peer.cache.records import PublicationRecord, PublicationRecords
from pantala_peer.errors import OutsideRootError, PathConflictError
from pantala_pieces.digests import sha256_of
from pantala_pieces.errors import store_errors
from pantala_pieces.writing import sync_directory
from pantala_protocol.rules import names

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


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


class FileAccess(NamedTuple):
    """Which programs of the node may read published files."""

    everyone: bool = False
    """True: all programs. False: programs of root, of the peer's user, and of the files' group."""
    group: int | None = None
    """The group of files and folders. ``None``: the peer's own group."""

    @property
    def directory(self) -> int:
        """The mode of folders."""
        return 0o755 if self.everyone else 0o750

    @property
    def file(self) -> int:
        """The mode of files."""
        return 0o444 if self.everyone else 0o440

    def grant(self, file: int, mode: int) -> None:
        """Set the mode and the group of an open file or folder. The peer's user must be a member of the group."""
        os.fchmod(file, mode)
        if self.group is not None and os.fstat(file).st_gid != self.group:
            os.fchown(file, -1, self.group)


class Publisher:
    """Publishes below ``root / "files"``, with records in ``root / "published"``.

    The methods block, and raise :class:`StoreError` if the disk fails. Call them from one thread at a time.
    """

    def __init__(self, root: Path, access: FileAccess | None = None) -> None:
        self._files = root / "files"
        self._access = access or FileAccess()
        self._records = PublicationRecords(root / "published")
        self._same: dict[str, tuple[str, tuple[int, int, int]]] = {}

    def open(self) -> None:
        """Make missing directories and read the records."""
        self._records.open()
        with store_errors(f"open {self._files}"):
            self._files.mkdir(mode=0o755, exist_ok=True)
            for record in self._records:
                self._tidy(record)
                self._grant_again(record)

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
            missing = self._missing(parents)
            if missing:  # before they are made, so that no crash leaves a directory without a record
                self._records.keep(self._record(request, (request.source.stat().st_ino,), missing))
            try:
                with self._directory(parents, make=True) as directory:
                    self._link(request, directory)
            except BaseException:
                self._remove_empty(parents, missing)
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
            with gone, self._directory(parents, make=False) as directory:
                there = _look(directory, name)
                if there is not None and there.st_ino in record.inodes:
                    os.unlink(name, dir_fd=directory)
                    os.fsync(directory)
            self._remove_empty(parents, record.directories)
        self._records.remove(path)

    # Directories

    @contextlib.contextmanager
    def _directory(self, parents: list[str], *, make: bool) -> Iterator[int]:
        """Open a directory below the root without following links. ``make``: create the missing directories."""
        fd = os.open(self._files, _DIRECTORY)
        try:
            for name in parents:
                new = make and _make(fd, name, self._access.directory)
                if new:
                    os.fsync(fd)
                inner = _enter(fd, name)
                os.close(fd)
                fd = inner
                if new:
                    self._access.grant(fd, self._access.directory)
            yield fd
        finally:
            os.close(fd)

    def _missing(self, parents: list[str]) -> tuple[str, ...]:
        """The missing directories above a path, the uppermost first."""
        for depth, name in enumerate(parents):
            with self._directory(parents[:depth], make=False) as directory:
                if _look(directory, name) is None:
                    return tuple("/".join(parents[:end]) for end in range(depth + 1, len(parents) + 1))
        return ()

    def _link(self, request: PublicationRequest, directory: int) -> None:
        path, source = request.path, request.source
        inode, size = source.stat().st_ino, source.stat().st_size
        there = _look(directory, path.rpartition("/")[2])
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
        with _opened(source) as file:
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

    def _remove_empty(self, parents: list[str], ours: tuple[str, ...]) -> None:
        """Remove those of our directories that exist and are empty, from the innermost on."""
        for depth in range(len(parents), 0, -1):
            if "/".join(parents[:depth]) not in ours:
                return
            try:
                with self._directory(parents[: depth - 1], make=False) as directory:
                    if not _remove(directory, parents[depth - 1]):
                        return
            except FileNotFoundError:
                continue
            except (OutsideRootError, PathConflictError):
                return

    def _in_place(self, record: PublicationRecord) -> bool:
        *parents, name = record.path.split("/")
        try:
            with self._directory(parents, make=False) as directory:
                there = _look(directory, name)
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
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            try:
                opened = os.open(path.rpartition("/")[2], flags, dir_fd=directory)
            except PermissionError:
                return False
            with os.fdopen(opened, "rb") as file:
                known = self._same[path] = (sha256_of(file, there.st_size), key)
        return known[0] == sha256

    def _tidy(self, record: PublicationRecord) -> None:
        """Remove the temporary file that remains after a crash during a replacement."""
        if len(record.inodes) < 2:
            return
        parents = record.path.split("/")[:-1]
        with (
            contextlib.suppress(OSError, OutsideRootError, PathConflictError),
            self._directory(parents, make=False) as directory,
        ):
            for name in [entry.name for entry in os.scandir(directory)]:
                there = _look(directory, name) if name.startswith(names.RESERVED) else None
                if there is not None and there.st_ino in record.inodes:
                    os.unlink(name, dir_fd=directory)

    def _grant_again(self, record: PublicationRecord) -> None:
        """Give the peer's file and folders the configured access, which may have changed since their publication."""
        *parents, name = record.path.split("/")
        with contextlib.suppress(OSError, OutsideRootError, PathConflictError):
            for depth in range(1, len(parents) + 1):
                if "/".join(parents[:depth]) in record.directories:
                    with self._directory(parents[:depth], make=False) as directory:
                        self._access.grant(directory, self._access.directory)
            with self._directory(parents, make=False) as directory:
                there = _look(directory, name)
                if there is not None and there.st_ino in record.inodes:
                    with _opened(name, directory) as file:
                        self._access.grant(file, self._access.file)

    def _record(
        self, request: PublicationRequest, inodes: tuple[int, ...], missing: tuple[str, ...] = ()
    ) -> PublicationRecord:
        """Make the record. It names the directories on the path that the peer makes, for their later removal."""
        above = request.path.split("/")[:-1]
        parents = ("/".join(above[:depth]) for depth in range(1, len(above) + 1))
        ours = tuple(parent for parent in parents if parent in missing or self._records.made(parent))
        return PublicationRecord(request.path, request.task_id, inodes, ours)


@contextlib.contextmanager
def _opened(path: Path | str, directory: int | None = None) -> Iterator[int]:
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    try:
        yield file
    finally:
        os.close(file)


def check_root(root: Path, group: int | None = None) -> None:
    """Make ``root`` if it is missing. Raises :class:`OutsideRootError` if other users could redirect the peer's writes.

    Raises the same error if the peer may not give files to ``group``.
    """
    if group is not None and os.geteuid() and group not in (os.getegid(), *os.getgroups()):
        raise OutsideRootError(
            f"The peer is not a member of the group {group}. Add the peer to the group, or set another --files-group."
        )
    with store_errors(f"use {root} as the root"):
        root.mkdir(mode=0o755, parents=True, exist_ok=True)
        for directory in (root, root / "files", root / "cache", root / "published"):
            with contextlib.suppress(FileNotFoundError):
                _check_directory(directory)
        sync_directory(root)


def _check_directory(directory: Path) -> None:
    status = directory.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise OutsideRootError(f"{directory} is not a directory. Remove it, or choose another --root.")
    if status.st_uid not in (0, os.geteuid()):
        raise OutsideRootError(f"{directory} belongs to the user {status.st_uid}. Run chown or choose another --root.")
    if status.st_mode & stat.S_IWOTH:
        raise OutsideRootError(f"All users may write to {directory}. Run chmod o-w or choose another --root.")


def _make(directory: int, name: str, mode: int) -> bool:
    """Make a directory. Returns False if the name already exists."""
    try:
        os.mkdir(name, mode, dir_fd=directory)
    except FileExistsError:
        return False
    return True


def _remove(directory: int, name: str) -> bool:
    """Remove an empty directory. Returns False if it is not empty, or must stay. Raises :class:`FileNotFoundError`."""
    try:
        os.rmdir(name, dir_fd=directory)
    except FileNotFoundError:
        raise
    except OSError:
        return False
    os.fsync(directory)
    return True


def _enter(directory: int, name: str) -> int:
    try:
        return os.open(name, _DIRECTORY, dir_fd=directory)
    except OSError as error:
        if error.errno not in (errno.ENOTDIR, errno.ELOOP):
            raise
    there = _look(directory, name)
    if there is not None and stat.S_ISLNK(there.st_mode):
        raise OutsideRootError(f"The directory {name!r} of the path is a symbolic link on the node.")
    raise PathConflictError(f"The path needs a directory {name!r}, but a file has this name on the node.")


def _look(directory: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None
