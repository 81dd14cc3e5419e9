"""Reads and changes ``certs.d`` and the peer's record of it on the disk. A crash leaves no half-written file."""

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from pantala_peer.containerd.errors import FolderError
from pantala_peer.containerd.plan import DEFAULT, FolderRecord, FormerState, HostsFile, Place, Plan, Tree
from pantala_pieces import records
from pantala_pieces.descriptor import opened
from pantala_pieces.errors import store_error
from pantala_pieces.records import RecordError
from pantala_pieces.writing import sync_directory, write_bytes

_HOSTS = "hosts.toml"
_TEMPORARY = ".hosts.toml.pantala"
_CERTIFICATES = frozenset({".crt", ".cert", ".key"})
_MAX_SIZE = 256 * 1024


class Folder:
    """``certs.d`` and the folder of the peer's record. The methods block and raise :class:`FolderError`."""

    def __init__(self, folders: Sequence[Path], state: Path) -> None:
        self._certs_d, *self._further = folders
        self._state = state

    @property
    def recorded(self) -> bool:
        """True if this folder was configured, and has not been cleaned up since then."""
        return self._record.exists()

    @contextlib.contextmanager
    def alone(self, *, create: bool = True) -> Iterator[None]:
        """Hold a lock on the record, and raise :class:`FolderError` for errors of the disk.

        If ``create`` is False, the folder of the record must exist.
        """
        try:
            if create:
                self._state.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(self._state, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
                yield
            finally:
                os.close(fd)
        except OSError as error:
            what = f"use {error.filename or self._certs_d}"
            raise FolderError(str(store_error(what, error, "Check this path"))) from error

    def read_record(self) -> FolderRecord:
        try:
            return records.load(self._record, FolderRecord)
        except FileNotFoundError:
            return FolderRecord()
        except RecordError as error:
            with contextlib.suppress(RecordError, FileNotFoundError):
                return records.load(records.copy_of(self._record), FolderRecord)
            raise FolderError(f"{self._record} is not valid ({error}). Move the file to another folder") from None

    def read_tree(self) -> Tree:
        missing = [path for path in (self._certs_d, *self._certs_d.parents) if not path.exists()]
        places = {} if missing else {path.name: _look(path) for path in self._certs_d.iterdir()}
        beyond: dict[str, str] = {}
        for folder in self._further:
            if DEFAULT not in beyond and folder.is_dir():  # a default hides later folders
                beyond = {path.name: str(path) for path in folder.iterdir() if path.is_dir()} | beyond
        return Tree(places, tuple(map(str, reversed(missing))), (os.geteuid(), os.getegid()), beyond)

    def carry_out(self, plan: Plan) -> None:
        """Carry out a plan. After a crash at any point, a new plan completes the work."""
        if not plan.idle:
            self._write_record(plan.record)
        for name in plan.restores.keys() - plan.unfinished:
            self._restore(self._certs_d / name, plan.restores[name])
        for name, target in plan.links.items():  # before the default, which would hide their targets
            self._certs_d.mkdir(mode=0o755, parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):  # another process has just created it, so it stays
                (self._certs_d / name).symlink_to(target)
        for name, file in plan.writes.items():
            (self._certs_d / name).mkdir(mode=0o755, parents=True, exist_ok=True)
            self._put(self._certs_d / name / _HOSTS, file)
        for name, target in plan.unlinks.items():
            link = self._certs_d / name
            if link.is_symlink() and str(link.readlink()) == target:
                link.unlink()
        if plan.after.entries or plan.after.links:
            if plan.after != plan.record:
                self._write_record(plan.after)
            return
        for made in reversed(plan.record.made):
            _remove_empty(Path(made))
        self._record.unlink(missing_ok=True)  # without the record, its copy does not count
        records.copy_of(self._record).unlink(missing_ok=True)
        _remove_empty(self._state)

    @property
    def _record(self) -> Path:
        return self._state / "record.json"

    def _write_record(self, record: FolderRecord) -> None:
        content = HostsFile(records.seal(msgspec.json.encode(record)), 0o600, os.geteuid(), os.getegid())
        self._put(self._record, content)
        self._put(records.copy_of(self._record), content)

    def _restore(self, directory: Path, entry: FormerState) -> None:
        (directory / _TEMPORARY).unlink(missing_ok=True)
        if entry.file is None:
            (directory / _HOSTS).unlink(missing_ok=True)
        elif entry.file != _look(directory).file:
            self._put(directory / _HOSTS, entry.file)
        if not entry.directory:
            _remove_empty(directory)

    def _put(self, path: Path, file: HostsFile) -> None:
        """Replace a file atomically."""
        temporary = path.with_name(_TEMPORARY)
        with opened(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as fd:
            there = os.fstat(fd)
            if (there.st_uid, there.st_gid) != (file.uid, file.gid):
                os.fchown(fd, file.uid, file.gid)
            os.fchmod(fd, file.mode)
            write_bytes(fd, file.content, 0)
            os.fsync(fd)
        temporary.replace(path)
        sync_directory(path.parent)


def _look(directory: Path) -> Place:
    if directory.is_symlink() or not directory.is_dir():
        link = str(directory.readlink()) if directory.is_symlink() else ""
        return Place(directory.is_dir(), obstacle="it is a link or a file; make it a directory", link=link)
    certificates = any(path.suffix in _CERTIFICATES for path in directory.iterdir())
    try:
        with opened(directory / _HOSTS) as fd:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode) or status.st_size > _MAX_SIZE:
                return Place(True, obstacle=f"its hosts.toml is not a regular file of up to {_MAX_SIZE >> 10} KiB")
            content = os.pread(fd, _MAX_SIZE, 0)
    except FileNotFoundError:
        return Place(True, certificates=certificates)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        return Place(True, obstacle="its hosts.toml is a symbolic link; make it a file")
    return Place(True, HostsFile(content, stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid), "", certificates)


def _remove_empty(directory: Path) -> None:
    try:
        directory.rmdir()
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.EBUSY):  # busy: a mount point
            raise
        return
    sync_directory(directory.parent)
