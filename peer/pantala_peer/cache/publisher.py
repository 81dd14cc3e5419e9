"""Publication: a whole file appears at its path below one root, in one step, and what is not ours is never touched.

Ours is what a record names: the path and the inode that was put there. Records are written before the path changes, so
a crash at any point leaves either a record too much (harmless) or nothing. A file of somebody else that has exactly the
published content satisfies a delivery, and stays somebody else's.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from msgspec import structs

from pantala_peer.cache.records import PublicationRecord, PublicationRecords
from pantala_peer.errors import OutsideRootError, PathConflictError
from pantala_pieces.errors import from_os_error
from pantala_pieces.file import sync_directory

_TEMPORARY = ".pantala-"
"""Names that begin so are ours for a moment; no path may have one."""

_MAX_PATH = 4096
_MAX_NAME = 255
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def components(path: str) -> list[str]:
    """The names of a path below the root. Raises :class:`OutsideRootError` for all that is not plainly below it."""
    names = path.split("/")
    if not path or not path.isprintable() or len(os.fsencode(path)) > _MAX_PATH:
        raise OutsideRootError(f"{path[:100]!r} is not a path below the root")
    for name in names:
        if name in ("", ".", "..") or len(os.fsencode(name)) > _MAX_NAME or name.startswith(_TEMPORARY):
            raise OutsideRootError(f"{path[:100]!r} is not a plain relative path: it may not contain {name[:40]!r}")
    return names


class PublicationRequest(NamedTuple):
    """One file to publish."""

    path: str
    task_id: str
    source: Path
    """Durable, on the root's filesystem, never written again."""
    sha256: str
    """Of the source, in hex."""


class Publisher:
    """The files under ``root / "files"``, and the records of those that are ours in ``root / "published"``.

    The methods block, are called by one thread at a time, and raise :class:`StoreError` where the disk refuses.
    """

    def __init__(self, root: Path) -> None:
        self._files = root / "files"
        self._records = PublicationRecords(root / "published")
        self._same: dict[str, tuple[str, tuple[int, int, int]]] = {}

    def open(self) -> None:
        """Make the directories if they are missing, read the records."""
        self._records.open()
        try:
            self._files.mkdir(mode=0o755, exist_ok=True)
            for record in self._records:
                self._tidy(record)
        except OSError as error:
            raise from_os_error(error, f"open {self._files}") from error

    def paths(self, task_id: str) -> list[str]:
        """The paths that are published for a task."""
        return self._records.paths(task_id)

    def tasks(self) -> set[str]:
        """The tasks that something is published for."""
        return self._records.tasks()

    def publish(self, wanted: PublicationRequest) -> None:
        """Let a file appear at its path, or see that it does. Raises :class:`DeliveryError`."""
        path = wanted.path
        *parents, _ = components(path)
        record = self._records.get(path)
        if record is not None and record.task_id != wanted.task_id and self._in_place(record):
            raise PathConflictError(f"another Task's file is published at {path!r}")
        try:
            with self._directory(parents, make=True) as (directory, made):
                try:
                    self._show(wanted, directory, made)
                except BaseException:
                    self._remove_empty(parents, made)
                    raise
        except OSError as error:
            raise from_os_error(error, f"publish {path!r}") from error

    def unpublish(self, path: str) -> None:
        """Let our file at ``path`` vanish, and the directories that were made for it; anything else there stays."""
        record = self._records.get(path)
        if record is None:
            return
        try:
            with contextlib.suppress(FileNotFoundError, OutsideRootError, PathConflictError):
                *parents, name = components(path)
                with self._directory(parents, make=False) as (directory, _):
                    there = _look(directory, name)
                    if there is not None and there.st_ino in record.inodes:
                        os.unlink(name, dir_fd=directory)
                        os.fsync(directory)
                self._remove_empty(parents, record.directories)
        except OSError as error:
            raise from_os_error(error, f"unpublish {path!r}") from error
        self._records.remove(path)

    # The tree

    @contextlib.contextmanager
    def _directory(self, parents: list[str], *, make: bool) -> Iterator[tuple[int, tuple[str, ...]]]:
        """Open a directory below the root, name by name and through no link; tell which ones were made."""
        made: list[str] = []
        fd = os.open(self._files, _DIRECTORY)
        try:
            for depth, name in enumerate(parents, 1):
                if make:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(name, 0o755, dir_fd=fd)
                        os.fsync(fd)
                        made.append("/".join(parents[:depth]))
                inner = _enter(fd, name)
                os.close(fd)
                fd = inner
            yield fd, tuple(made)
        finally:
            os.close(fd)

    def _show(self, wanted: PublicationRequest, directory: int, made: tuple[str, ...]) -> None:
        path, source = wanted.path, wanted.source
        inode = source.stat().st_ino
        there = _look(directory, path.rpartition("/")[2])
        record = self._records.get(path)
        if there is None:
            self._put(source, directory, self._record(wanted, (inode,), made), replace=False)
        elif there.st_ino == inode:
            self._records.keep(self._record(wanted, (inode,), made))
        elif record is not None and there.st_ino in record.inodes:
            self._put(source, directory, self._record(wanted, (inode, there.st_ino), made), replace=True)
        elif not self._is_same(path, directory, there, wanted.sha256):
            raise PathConflictError(f"something that Pantala did not put there is at {path!r}")

    def _put(self, source: Path, directory: int, record: PublicationRecord, *, replace: bool) -> None:
        """Record, then show. Where nothing was, ``link`` itself refuses to cover what came meanwhile."""
        name = record.path.rpartition("/")[2]
        source.chmod(0o444)
        self._records.keep(record)
        if not replace:
            try:
                os.link(source, name, dst_dir_fd=directory, follow_symlinks=False)
            except FileExistsError:
                raise PathConflictError(f"something else appeared at {record.path!r}") from None
        else:
            temporary = _TEMPORARY + secrets.token_hex(8)
            os.link(source, temporary, dst_dir_fd=directory, follow_symlinks=False)
            os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
        os.fsync(directory)
        self._records.keep(structs.replace(record, inodes=record.inodes[:1]))

    def _remove_empty(self, parents: list[str], ours: tuple[str, ...]) -> None:
        for depth in range(len(parents), 0, -1):
            if "/".join(parents[:depth]) not in ours:
                return
            with self._directory(parents[: depth - 1], make=False) as (directory, _):
                try:
                    os.rmdir(parents[depth - 1], dir_fd=directory)
                except OSError:  # not empty, or not there: either way it is not ours to remove
                    return
                os.fsync(directory)

    def _in_place(self, record: PublicationRecord) -> bool:
        *parents, name = record.path.split("/")
        try:
            with self._directory(parents, make=False) as (directory, _):
                there = _look(directory, name)
        except (FileNotFoundError, OutsideRootError, PathConflictError):
            return False
        return there is not None and there.st_ino in record.inodes

    def _is_same(self, path: str, directory: int, there: os.stat_result, sha256: str) -> bool:
        """Whether a stranger's file has exactly the content. It is read once for as long as it does not change."""
        if not stat.S_ISREG(there.st_mode):
            return False
        key = (there.st_ino, there.st_size, there.st_mtime_ns)
        known = self._same.get(path)
        if known is None or known[1] != key:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            with os.fdopen(os.open(path.rpartition("/")[2], flags, dir_fd=directory), "rb") as file:
                known = self._same[path] = (hashlib.file_digest(file, "sha256").hexdigest(), key)
        return known[0] == sha256

    def _tidy(self, record: PublicationRecord) -> None:
        """Remove the name that a crash between two steps of a replacement left."""
        if len(record.inodes) < 2:
            return
        parents = record.path.split("/")[:-1]
        with (
            contextlib.suppress(FileNotFoundError, OutsideRootError, PathConflictError),
            self._directory(parents, make=False) as (directory, _),
        ):
            for name in [entry.name for entry in os.scandir(directory)]:
                there = _look(directory, name) if name.startswith(_TEMPORARY) else None
                if there is not None and there.st_ino in record.inodes:
                    os.unlink(name, dir_fd=directory)

    def _record(self, wanted: PublicationRequest, inodes: tuple[int, ...], made: tuple[str, ...]) -> PublicationRecord:
        """Directories made for another published file are shared: the last one to go removes them."""
        names = wanted.path.split("/")[:-1]
        parents = ("/".join(names[:depth]) for depth in range(1, len(names) + 1))
        ours = tuple(parent for parent in parents if parent in made or self._records.made(parent))
        return PublicationRecord(wanted.path, wanted.task_id, inodes, ours)


def check_root(root: Path) -> None:
    """Make ``root`` if it is missing. Raises :class:`OutsideRootError` if others could lead us out of it."""
    try:
        root.mkdir(mode=0o755, parents=True, exist_ok=True)
        for directory in (root, root / "files", root / "cache", root / "published"):
            with contextlib.suppress(FileNotFoundError):
                _check_directory(directory)
        sync_directory(root)
    except OSError as error:
        raise from_os_error(error, f"use {root} as the root") from error


def _check_directory(directory: Path) -> None:
    status = directory.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise OutsideRootError(f"{directory} is not a directory; remove it or choose another --root")
    if status.st_uid not in (0, os.geteuid()):
        raise OutsideRootError(f"{directory} belongs to user {status.st_uid}; chown it or choose another --root")
    if status.st_mode & stat.S_IWOTH:
        raise OutsideRootError(f"everybody may write to {directory}; chmod o-w it or choose another --root")


def _enter(directory: int, name: str) -> int:
    try:
        return os.open(name, _DIRECTORY, dir_fd=directory)
    except OSError as error:
        if error.errno not in (errno.ENOTDIR, errno.ELOOP):
            raise
    there = _look(directory, name)
    if there is not None and stat.S_ISLNK(there.st_mode):
        raise OutsideRootError(f"{name!r} is a symbolic link; remove it or choose another path")
    raise PathConflictError(
        f"{name!r} is a file, and the path needs a directory there; remove it or choose another path"
    )


def _look(directory: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None
