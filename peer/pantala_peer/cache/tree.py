"""The folders of published files below one root, opened without following links, and the access to them."""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pantala_peer.errors import OutsideRootError, PathConflictError
from pantala_pieces.errors import store_errors
from pantala_pieces.writing import make_directory, sync_directory

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


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


class FileTree:
    """The folders below ``root``. Its methods raise :class:`OSError` and :class:`DeliveryError`."""

    def __init__(self, root: Path, access: FileAccess) -> None:
        self._root = root
        self._access = access

    @contextlib.contextmanager
    def folder(self, parents: list[str], *, make: bool) -> Iterator[int]:
        """Open a directory below the root without following links. ``make``: create the missing directories."""
        fd = os.open(self._root, _DIRECTORY)
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

    def missing(self, parents: list[str]) -> tuple[str, ...]:
        """The missing directories above a path, the uppermost first."""
        for depth, name in enumerate(parents):
            with self.folder(parents[:depth], make=False) as directory:
                if look(directory, name) is None:
                    return tuple("/".join(parents[:end]) for end in range(depth + 1, len(parents) + 1))
        return ()

    def remove_empty(self, parents: list[str], ours: tuple[str, ...]) -> None:
        """Remove those of our directories that exist and are empty, from the innermost on."""
        for depth in range(len(parents), 0, -1):
            if "/".join(parents[:depth]) not in ours:
                return
            try:
                with self.folder(parents[: depth - 1], make=False) as directory:
                    if not _remove(directory, parents[depth - 1]):
                        return
            except FileNotFoundError:
                continue
            except (OutsideRootError, PathConflictError):
                return


def check_root(root: Path, group: int | None = None) -> None:
    """Make ``root`` if it is missing. Raises :class:`OutsideRootError` if other users could redirect the peer's writes.

    Raises the same error if the peer may not give files to ``group``.
    """
    if group is not None and os.geteuid() and group not in (os.getegid(), *os.getgroups()):
        raise OutsideRootError(
            f"The peer is not a member of the group {group}. Add the peer to the group, or set another --files-group."
        )
    with store_errors(f"use {root} as the root", "Give a folder of a disk as --root"):
        make_directory(root, 0o755)
        for directory in (root, root / "files", root / "cache", root / "published"):
            with contextlib.suppress(FileNotFoundError):
                _check_directory(directory)
        sync_directory(root)


def _check_directory(directory: Path) -> None:
    status = directory.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise OutsideRootError(f"{directory} is not a directory. Remove it, or choose another --root.")
    if status.st_uid not in (0, os.geteuid()):
        advice = f"Run chown {os.geteuid()} {directory}, or choose another --root."
        raise OutsideRootError(f"{directory} belongs to the user {status.st_uid}. {advice}")
    if status.st_mode & stat.S_IWOTH:
        raise OutsideRootError(
            f"All users may write to {directory}. Run chmod o-w {directory}, or choose another --root."
        )


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
    there = look(directory, name)
    if there is not None and stat.S_ISLNK(there.st_mode):
        raise OutsideRootError(f"The directory {name!r} of the path is a symbolic link on the node.")
    raise PathConflictError(f"The path needs a directory {name!r}, but a file has this name on the node.")


def look(directory: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None
