"""A crash, a power cut or a disk error at each operation on the volume loses no reported piece."""

import asyncio
import errno
import hashlib
import os
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import pantala_pieces.file
import pantala_pieces.journal
import pantala_pieces.parts
import pantala_pieces.writing
from pantala_pieces.digests import PieceHash
from pantala_protocol.ranges import members
from pantala_protocol.statement import CDNStatus
from pantala_supernode.tasks.copy import Copy, FetchOrder, FileSource
from tests.support.cdn import TASK, CDNBench
from tests.support.examples import examples
from tests.support.source import Content, FakeReader, Step

PIECE = 128 * 1024
CONTENT = Content(random.Random(0).randbytes(5 * PIECE + 7), '"v1"')
UNKNOWN = Content(random.Random(1).randbytes(3 * 1024 * 1024 + 7), '"v1"')
ORDER = FetchOrder(TASK, FileSource("http://origin/file"))
EACH = max(1, 100 // examples(100))
"""``make unit`` tries each sixth operation, the other commands try all."""


class CrashError(BaseException):
    """The process is dead. Nothing catches this."""


class Disk:
    """The operating system as the store sees it; something happens at operation number ``at``.

    A crash ends every later operation too. With ``power`` it also takes back what was written and not synced.
    """

    WATCHED = frozenset({"pwrite", "write", "fdatasync", "fsync", "ftruncate", "posix_fallocate", "open"})

    def __init__(self, at: int, *, error: int | None = None, power: bool = False) -> None:
        self.count = 0
        self.crashed = False
        self.on_crash: Callable[[], object] = lambda: None
        self._at = at
        self._error = error
        self._power = power
        self._unsynced: list[tuple[str, int, bytes, int]] = []
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> object:
        real = getattr(os, name)
        if name not in self.WATCHED:
            return real

        def operation(*arguments: object) -> object:
            with self._lock:  # no crash comes in the middle of another thread's operation
                self._happen()
                if name in ("pwrite", "write"):
                    self._remember(*arguments)  # type: ignore[arg-type]
                if name in ("fdatasync", "fsync"):  # this records the sync; the real disk does not need one
                    path = _path(arguments[0])
                    self._unsynced = [written for written in self._unsynced if written[0] != path]
                    return None
                return real(*arguments)

        return operation

    def _happen(self) -> None:
        self.count += 1
        if self.crashed or (self.count > self._at and self._error is None):
            self._crash()
        if self.count == self._at + 1 and self._error is not None:
            raise OSError(self._error, os.strerror(self._error))

    def _remember(self, fd: int, data: bytes, offset: int | None = None) -> None:
        path, size = _path(fd), os.fstat(fd).st_size
        start = size if offset is None else offset
        before = os.pread(fd, len(data), start) if start < size else b""
        self._unsynced.append((path, start, before, size))

    def _crash(self) -> None:
        if self._power and not self.crashed:
            for path, start, before, size in reversed(self._unsynced):
                with Path(path).open("r+b") as file:
                    file.seek(start)
                    file.write(before)
                    file.truncate(size)
        self.crashed = True
        self.on_crash()
        raise CrashError


def _path(fd: object) -> str:
    return str(Path(f"/proc/self/fd/{fd}").readlink())


@contextmanager
def disk(monkeypatch: pytest.MonkeyPatch, it: Disk) -> Iterator[Disk]:
    with monkeypatch.context() as patch:
        patch.setattr(pantala_pieces.file, "os", it)
        patch.setattr(pantala_pieces.journal, "os", it)
        patch.setattr(pantala_pieces.writing, "os", it)
        yield it


class Life(CDNBench):
    def __init__(self, directory: Path, source: FakeReader) -> None:
        super().__init__(directory, source, durable=True, rng=random.SystemRandom(), sleep=lambda _: asyncio.sleep(0))

    @property
    def shown(self) -> dict[str, int]:
        """The last reported pieces of each generation."""
        return {copy.generation: copy.cached for copy in self.seen}

    async def until_done(self, it: Disk | None = None) -> Copy:
        """Run until the copy is whole or the disk crashed."""
        if it:
            loop = asyncio.get_running_loop()
            it.on_crash = lambda: loop.call_soon_threadsafe(self.changed.set)
        async with self:
            self.cdn.trigger(ORDER)
            return await self.until(lambda copy: copy.status is CDNStatus.SUCCESS or bool(it and it.crashed))


async def check_after_a_crash(directory: Path, content: Content, step: Step, it: Disk, shown: dict[str, int]) -> None:
    source = FakeReader(content, [step])
    after = Life(directory, source)
    await after.cdn.recover()
    found = after.cdn.status(TASK)
    assert shown.get(found.generation, 0) & ~found.cached == 0, f"a piece was lost by a crash at operation {it.count}"
    assert not any(mask for generation, mask in shown.items() if generation != found.generation)
    for piece in members(found.cached):
        data = content.data[piece * found.piece_size : (piece + 1) * found.piece_size]
        assert PieceHash(data).digest() == after.cdn.piece_digest(TASK, piece)
    copy = await after.until_done()
    assert f"sha256:{hashlib.sha256(content.data).hexdigest()}" == copy.digest
    file = after.store.get(TASK)
    assert file is not None
    assert content.data == file.path.read_bytes()
    assert len(content.data) - found.origin_bytes <= source.sent <= len(content.data)


@pytest.mark.parametrize("power", [False, True], ids=["kill", "power cut"])
@pytest.mark.parametrize(
    ("content", "step"), [(CONTENT, Step()), (UNKNOWN, Step(length_known=False))], ids=["known", "unknown length"]
)
async def test_a_crash_at_any_operation_loses_no_piece_that_was_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: Content, step: Step, *, power: bool
) -> None:
    for at in range(0, 500, EACH):
        directory = tmp_path / str(at)
        with disk(monkeypatch, Disk(at, power=power)) as it:
            life = Life(directory, FakeReader(content, [step]))
            try:
                await life.until_done(it)
            except CrashError:
                await life.cdn.copies.close()
        if not it.crashed:
            assert at > 10
            return
        if power:
            monkeypatch.setattr(pantala_pieces.parts, "boot_id", lambda: random.randbytes(16))
        await check_after_a_crash(directory, content, step, it, life.shown)
    raise AssertionError("the copy does not end")


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC, errno.EDQUOT], ids=["EIO", "ENOSPC", "EDQUOT"])
async def test_a_copy_survives_any_disk_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    for at in range(0, 500, EACH):
        directory = tmp_path / str(at)
        directory.mkdir()
        with disk(monkeypatch, Disk(at, error=error)) as it:
            life = Life(directory, FakeReader(CONTENT))
            copy = await life.until_done()
            file = life.store.get(TASK)
        assert file is not None
        assert CONTENT.data == file.path.read_bytes()
        assert f"sha256:{hashlib.sha256(CONTENT.data).hexdigest()}" == copy.digest
        if it.count <= at:
            return
    raise AssertionError("the copy does not end")
