"""A model of a disk that loses power: what a program wrote, and every state in which the disk may be afterwards.

:class:`Recording` notes the changes below a folder as they happen, with the real files. :class:`CrashStates` gives the
states after a power cut. What was synced is there. Of all other changes any may be missing: a write may be torn, and
the newest names of a directory may be lost. So a synced file whose directory was never synced may have no name.
"""

import os
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SECTOR = 512
"""A disk writes a sector as a whole or not at all. A torn write may also end at any byte."""


@dataclass(frozen=True)
class Write:
    """Bytes of a file."""

    inode: int
    offset: int
    data: bytes


@dataclass(frozen=True)
class Resize:
    """A new length of a file. ``grow``: it only reserves room, so it never cuts bytes off."""

    inode: int
    size: int
    grow: bool = False


@dataclass(frozen=True)
class Name:
    """A name in a directory leads to an inode from now on, or to nothing."""

    directory: int
    name: str
    inode: int | None
    more: tuple[str, int | None] | None = None
    """A second name in the same directory that changes at the same moment, as in a rename."""


@dataclass(frozen=True)
class Sync:
    """The bytes of a file, or the names in a directory, are durable."""

    inode: int


@dataclass(frozen=True)
class Note:
    """Something that the program may rely on from now on."""

    fact: Any


Change = Write | Resize | Name | Sync | Note


@dataclass
class Recording:
    """The changes below ``root``, in their order. Other threads may change files meanwhile."""

    root: Path
    changes: list[Change] = field(default_factory=list)
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _known: dict[str, int] = field(default_factory=dict)
    """The inodes of all names, so that a number that the real disk uses again gets a new one here."""
    _numbers: Iterator[int] = field(default_factory=lambda: iter(range(1, 1 << 30)))

    def note(self, fact: Any) -> None:
        with self._lock:
            self.changes.append(Note(fact))

    @contextmanager
    def running(self) -> Iterator[None]:
        """Record inside the block."""
        self._known[str(self.root)] = 0
        originals = {name: getattr(os, name) for name in _RECORDED}
        for name, record in _RECORDED.items():
            setattr(os, name, self._wrapped(originals[name], record))
        try:
            yield
        finally:
            for name, original in originals.items():
                setattr(os, name, original)

    def _wrapped(self, call: Callable[..., Any], record: Callable[..., None]) -> Callable[..., Any]:
        def recorded(*arguments: Any, **options: Any) -> Any:
            with self._lock:
                result = call(*arguments, **options)
                record(self, result, *arguments)
            return result

        return recorded

    def _file(self, descriptor: int) -> int | None:
        path = str(Path(f"/proc/self/fd/{descriptor}").readlink())
        return self._known.get(path) or self._found(path)

    def _found(self, path: str) -> int | None:
        """The inode of a file that appeared without a recorded call, such as by :meth:`Path.open`."""
        if not path.startswith(str(self.root)) or path.endswith(" (deleted)"):
            return 0 if path == str(self.root) else None
        if path not in self._known:
            content = Path(path).read_bytes() if Path(path).is_file() else b""
            inode = self._created(path)
            if content:
                self.changes.append(Write(inode, 0, content))
        return self._known[path]

    def _created(self, path: str) -> int:
        inode = self._known[path] = next(self._numbers)
        self.changes.append(Name(self._known[str(Path(path).parent)], Path(path).name, inode))
        return inode

    # What each call changes

    def on_open(self, _: int, path: Any, flags: int, *__: Any) -> None:
        if flags & os.O_CREAT and str(path).startswith(str(self.root)) and str(path) not in self._known:
            self._created(str(path))

    def on_write(self, written: int, descriptor: int, data: Any, offset: int | None = None) -> None:
        inode = self._file(descriptor)
        if inode is not None:
            start = os.fstat(descriptor).st_size - written if offset is None else offset
            self.changes.append(Write(inode, start, bytes(data[:written])))

    def on_sync(self, _: None, descriptor: int) -> None:
        inode = self._file(descriptor)
        if inode is not None:
            self.changes.append(Sync(inode))

    def on_truncate(self, _: None, descriptor: int, size: int) -> None:
        inode = self._file(descriptor)
        if inode is not None:
            self.changes.append(Resize(inode, size))

    def on_allocate(self, _: None, descriptor: int, offset: int, size: int) -> None:
        inode = self._file(descriptor)
        if inode is not None:
            self.changes.append(Resize(inode, offset + size, grow=True))

    def on_replace(self, _: None, source: Any, target: Any) -> None:
        if str(target).startswith(str(self.root)):
            if str(source) not in self._known:  # written by Path.open without a sync; it has the new name already
                self._created(str(source))
                self.changes.append(Write(self._known[str(source)], 0, Path(target).read_bytes()))
            inode = self._known.pop(str(source))
            self._known[str(target)] = inode
            folder = self._known[str(Path(target).parent)]
            self.changes.append(Name(folder, Path(target).name, inode, (Path(source).name, None)))

    def on_unlink(self, _: None, path: Any) -> None:
        if self._known.pop(str(path), None) is not None:
            self.changes.append(Name(self._known[str(Path(path).parent)], Path(path).name, None))

    def on_mkdir(self, _: None, path: Any, *__: Any) -> None:
        if str(path).startswith(str(self.root)) and str(path) not in self._known:
            self._created(str(path))


_RECORDED: dict[str, Callable[..., None]] = {
    "open": Recording.on_open,
    "pwrite": Recording.on_write,
    "write": Recording.on_write,
    "fdatasync": Recording.on_sync,
    "fsync": Recording.on_sync,
    "ftruncate": Recording.on_truncate,
    "posix_fallocate": Recording.on_allocate,
    "replace": Recording.on_replace,
    "unlink": Recording.on_unlink,
    "rmdir": Recording.on_unlink,
    "mkdir": Recording.on_mkdir,
}


@dataclass(frozen=True)
class CrashState:
    """The disk after a power cut."""

    files: dict[str, bytes | None]
    """The content by path. ``None``: a directory."""
    facts: tuple[Any, ...]
    """What the program relied on before the cut."""
    lost: str
    """What the disk lost, for a message."""


class CrashStates:
    """The states of a recording. Each is drawn at random: a moment, and which unsynced changes are lost until then."""

    def __init__(self, changes: list[Change]) -> None:
        self._changes = changes

    def draw(self, chance: random.Random) -> CrashState:
        cut = chance.randrange(len(self._changes) + 1)
        kept, lost = self._survivors(cut, chance)
        return CrashState(_tree(kept), tuple(c.fact for c in self._changes[:cut] if isinstance(c, Note)), lost)

    def _survivors(self, cut: int, chance: random.Random) -> tuple[list[Change], str]:
        """The changes before ``cut`` that are on the disk. Synced ones always are."""
        synced: dict[int, int] = {}
        for number, change in enumerate(self._changes[:cut]):
            if isinstance(change, Sync):
                synced[change.inode] = number
        name_fate = chance.choice([0.0, 0.5, 0.9, 0.9, 1.0])  # how many of the unsynced names survive
        fate = chance.choice([0.0, 0.2, 0.5, 0.5, 0.8, 0.9, 1.0])  # and of the other changes
        ended: set[int] = set()  # directories whose newest names are lost
        kept: list[Change] = []
        lost: list[str] = []
        for number, change in enumerate(self._changes[:cut]):
            inode = change.directory if isinstance(change, Name) else getattr(change, "inode", None)
            if inode is None or isinstance(change, Sync):
                continue
            durable = number < synced.get(inode, -1)
            if isinstance(change, Name) and not durable and (inode in ended or chance.random() >= name_fate):
                ended.add(inode)
                lost.append(f"{number}: the name {change.name}")
            elif durable or isinstance(change, Name) or chance.random() < fate:
                kept.append(change)
            elif isinstance(change, Write):
                torn = list(_torn(change, chance))
                lost.append(f"{number}: a part of {len(change.data)} bytes at {change.offset}")
                kept += torn
            else:
                lost.append(f"{number}: a length")
        return kept, f"cut before change {cut}; lost are {', '.join(lost) or 'no changes'}"


def _torn(write: Write, chance: random.Random) -> Iterator[Write]:
    """What is left of a write that was not synced: nothing, its beginning, some of its sectors, or only its length."""
    match chance.randrange(4):
        case 0:
            return
        case 1:
            yield Write(write.inode, write.offset, write.data[: chance.randrange(len(write.data) + 1)])
        case 2:
            for start in range(0, len(write.data), SECTOR):
                if chance.random() < 0.5:
                    yield Write(write.inode, write.offset + start, write.data[start : start + SECTOR])
        case _:
            yield Write(write.inode, write.offset, bytes(len(write.data)))


def _tree(changes: list[Change]) -> dict[str, bytes | None]:
    contents: dict[int, bytearray] = {}
    names: dict[int, dict[str, int]] = {}
    for change in changes:
        if isinstance(change, Write):
            content = contents.setdefault(change.inode, bytearray())
            end = change.offset + len(change.data)
            content.extend(bytes(max(0, end - len(content))))
            content[change.offset : end] = change.data
        elif isinstance(change, Resize):
            content = contents.setdefault(change.inode, bytearray())
            content.extend(bytes(max(0, change.size - len(content))))
            if not change.grow:
                del content[change.size :]
        elif isinstance(change, Name):
            folder = names.setdefault(change.directory, {})
            for name, inode in ((change.name, change.inode), *((change.more,) if change.more else ())):
                folder.pop(name, None)
                if inode is not None:
                    folder[name] = inode
    found: dict[str, bytes | None] = {}
    _walk(0, "", names, contents, found)
    return found


def _walk(
    inode: int,
    path: str,
    names: dict[int, dict[str, int]],
    contents: dict[int, bytearray],
    found: dict[str, bytes | None],
) -> None:
    for name, child in names.get(inode, {}).items():
        here = f"{path}/{name}" if path else name
        if child in contents:
            found[here] = bytes(contents[child])
        elif "." in name or name in ("data", "journal", "parts"):
            found[here] = b""
        else:
            found[here] = None
            _walk(child, here, names, contents, found)
