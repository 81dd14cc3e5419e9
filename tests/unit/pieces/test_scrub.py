"""The scrub: which file it verifies when, and what one pass over a file finds."""

import asyncio
import errno
import os
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from pantala_pieces.errors import StoreError
from pantala_pieces.file import PieceFile
from pantala_pieces.meta import Meta
from pantala_pieces.scrub import Scrub, ScrubCandidate
from pantala_pieces.store import PieceStore
from pantala_pieces.verification import CHUNK, STEP, FileVerdict, Finding, VerificationPass
from pantala_protocol import task_id
from pantala_protocol.geometry import Geometry
from tests.support.eventually import eventually
from tests.support.pieces import pieces_of, sha256
from tests.support.pieces import store as store

SIZE = 1 << 17
CONTENT = os.urandom(CHUNK + 3 * SIZE + 5)
GEOMETRY = Geometry(SIZE, len(CONTENT))


def stored(store: PieceStore, name: str = "a", content: bytes = CONTENT, size: int = SIZE) -> PieceFile:
    file = store.create(Meta(task_id.compute(f"http://origin/{name}"), "g", size, len(content)))
    file.put(pieces_of(content, size))
    if not content:
        file.path.touch()
    return file


def damage(file: PieceFile, position: int) -> None:
    with file.path.open("r+b") as data:
        data.seek(position)
        byte = data.read(1)
        data.seek(position)
        data.write(bytes([byte[0] ^ 1]))


def passed(file: PieceFile, expected: str) -> Finding:
    verification = VerificationPass(file, expected)
    while (finding := verification.step()) is None:
        pass
    return finding


# One pass


@pytest.mark.parametrize("length", [0, 1, SIZE, CHUNK, len(CONTENT)])
def test_a_right_file_is_found_right(store: PieceStore, length: int) -> None:
    content = CONTENT[:length]
    assert Finding(FileVerdict.RIGHT) == passed(stored(store, content=content), sha256(content))


@pytest.mark.parametrize("size", [1000, SIZE, 4 * CHUNK])
@pytest.mark.parametrize("positions", [[0], [SIZE - 1], [SIZE], [CHUNK], [len(CONTENT) - 1], [0, CHUNK + SIZE]])
def test_exactly_the_wrong_pieces_are_found(store: PieceStore, size: int, positions: list[int]) -> None:
    file = stored(store, size=size)
    for position in positions:
        damage(file, position)
    wrong = sum({1 << position // size for position in positions})
    assert Finding(FileVerdict.ROTTEN, wrong) == passed(file, sha256(CONTENT))


def test_right_pieces_with_another_digest_are_a_contradiction(store: PieceStore) -> None:
    assert Finding(FileVerdict.CONTRADICTED) == passed(stored(store), sha256(b"other"))


def test_a_cut_file_lacks_its_end(store: PieceStore) -> None:
    file = stored(store)
    os.truncate(file.path, CHUNK)
    verdict, wrong = passed(file, sha256(CONTENT))
    assert FileVerdict.ROTTEN is verdict
    assert GEOMETRY.all & ~((1 << CHUNK // SIZE) - 1) == wrong


def test_a_missing_file_lacks_all_pieces(store: PieceStore) -> None:
    file = stored(store)
    file.path.unlink()
    assert Finding(FileVerdict.ROTTEN, GEOMETRY.all) == passed(file, sha256(CONTENT))


def test_bytes_that_the_disk_cannot_read_are_wrong(store: PieceStore, monkeypatch: pytest.MonkeyPatch) -> None:
    file, read = stored(store), os.preadv

    def broken(fd: int, buffers: list[bytearray], offset: int) -> int:
        if offset >= CHUNK:
            raise OSError(errno.EIO, "Input/output error")
        return read(fd, buffers, offset)

    monkeypatch.setattr(os, "preadv", broken)
    assert Finding(FileVerdict.ROTTEN, GEOMETRY.all & ~0xFF) == passed(file, sha256(CONTENT))


def test_a_filesystem_that_returns_less_is_asked_again(store: PieceStore, monkeypatch: pytest.MonkeyPatch) -> None:
    file, read = stored(store), os.preadv

    def short(fd: int, buffers: list[memoryview], offset: int) -> int:
        return read(fd, [buffers[0][: CHUNK // 2]], offset)

    monkeypatch.setattr(os, "preadv", short)
    assert Finding(FileVerdict.RIGHT) == passed(file, sha256(CONTENT))


def test_an_error_that_says_nothing_about_the_bytes_is_raised(
    store: PieceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = stored(store)

    def broken(*_: object) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "preadv", broken)
    with pytest.raises(StoreError):
        passed(file, sha256(CONTENT))


def test_a_filesystem_without_direct_reads_is_read_through_its_cache(
    store: PieceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, opened, flags = stored(store), os.open, list[int]()

    def plain(path: Path, flag: int) -> int:
        flags.append(flag & os.O_DIRECT)
        if flag & os.O_DIRECT:
            raise OSError(errno.EINVAL, "Invalid argument")
        return opened(path, flag)

    monkeypatch.setattr(os, "open", plain)
    assert Finding(FileVerdict.RIGHT) == passed(file, sha256(CONTENT))
    assert [os.O_DIRECT, 0] == flags


def test_a_right_file_is_read_once_in_bounded_steps(store: PieceStore, monkeypatch: pytest.MonkeyPatch) -> None:
    length = 2 * STEP + 1
    file = store.create(Meta(task_id.compute("http://origin/large"), "g", 4 * CHUNK, length))
    with file.path.open("wb") as data:
        data.truncate(length)
    read, offsets = os.preadv, list[int]()

    def watched(fd: int, into: list[bytearray], offset: int) -> int:
        offsets.append(offset)
        return read(fd, into, offset)

    monkeypatch.setattr(os, "preadv", watched)
    verification = VerificationPass(file, sha256(bytes(length)))
    findings = [verification.step() for _ in range(3)]
    assert [None, None, Finding(FileVerdict.RIGHT)] == findings
    assert list(range(0, length, CHUNK)) == offsets


# Which file, when


class Files:
    """Files for a scrub, with the findings that it recorded."""

    def __init__(self, *files: PieceFile, digest: str = sha256(CONTENT)) -> None:
        self.files = dict.fromkeys(files, 0.0)
        self.pressing = False
        self.digest = digest
        self.findings: list[tuple[PieceFile, FileVerdict]] = []
        self.failing = 0

    def candidates(self) -> list[ScrubCandidate]:
        return [ScrubCandidate(file, self.digest, checked, self.pressing) for file, checked in self.files.items()]

    def serves(self, file: PieceFile, digest: str) -> bool:
        return file in self.files and self.digest == digest

    async def conclude(self, file: PieceFile, digest: str, finding: Finding) -> None:
        if self.failing:
            self.failing -= 1
            raise StoreError("the disk failed")
        self.pressing = False
        self.findings.append((file, finding.verdict))
        if finding.verdict is FileVerdict.RIGHT:
            self.files[file] = time.time()
        else:
            del self.files[file]


@asynccontextmanager
async def running(scrub: Scrub) -> AsyncIterator[list[str]]:
    """Run a scrub, with a list of the tasks whose files are wrong."""
    damaged: list[str] = []
    task = asyncio.create_task(scrub.run(damaged.append))
    try:
        yield damaged
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_each_file_is_verified_once_and_again_after_the_interval(store: PieceStore) -> None:
    files = Files(stored(store), stored(store, "b"))
    async with running(Scrub(files, busy=lambda: False, interval=0.5)) as damaged:
        await eventually(lambda: len(files.findings) == 2)
        await asyncio.sleep(0.2)
        assert 2 == len(files.findings)
        await eventually(lambda: len(files.findings) == 4)
    assert {FileVerdict.RIGHT} == {verdict for _, verdict in files.findings}
    assert [] == damaged


@pytest.mark.virtual_time
async def test_a_new_file_is_verified_when_the_scrub_is_woken(store: PieceStore) -> None:
    files = Files()
    scrub = Scrub(files, busy=lambda: False)
    async with running(scrub) as damaged:
        await asyncio.sleep(0.05)
        file = stored(store)
        damage(file, 0)
        files.files[file] = 0.0
        await asyncio.sleep(0.1)
        assert [] == files.findings
        scrub.wake()
        await eventually(lambda: damaged == [file.meta.task_id])
    assert [(file, FileVerdict.ROTTEN)] == files.findings
    assert 1 == scrub.damaged


@pytest.mark.virtual_time
@pytest.mark.parametrize("pressing", [False, True])
async def test_only_a_changed_file_is_verified_while_the_process_is_busy(store: PieceStore, pressing: bool) -> None:
    files, busy = Files(stored(store)), True
    files.pressing = pressing
    async with running(Scrub(files, busy=lambda: busy)):
        if not pressing:
            await asyncio.sleep(0.3)
            assert [] == files.findings
            busy = False
        await eventually(lambda: len(files.findings) == 1)


async def test_a_process_that_is_never_idle_delays_a_pass_by_an_hour_at_most(store: PieceStore) -> None:
    files, pauses = Files(stored(store)), list[float]()

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    async with running(Scrub(files, busy=lambda: True, sleep=pause)):
        await eventually(lambda: len(files.findings) == 1)
    assert 3600 == sum(pauses)


async def test_a_failed_pass_is_repeated_later(store: PieceStore) -> None:
    files, now = Files(stored(store)), [time.time()]
    files.failing = 1
    scrub = Scrub(files, busy=lambda: False, wall=lambda: now[0])
    async with running(scrub):
        await eventually(lambda: files.failing == 0)
        scrub.wake()
        await asyncio.sleep(0.1)
        assert [] == files.findings
        now[0] += 61
        scrub.wake()
        await eventually(lambda: len(files.findings) == 1)


@pytest.mark.parametrize("failing", [0, 1])
async def test_a_clock_that_is_set_back_delays_no_pass(store: PieceStore, failing: int) -> None:
    """The machine started with a wrong date. The last pass, or the pause after it, has a time in the future."""
    files, now = Files(stored(store)), [time.time() + 400 * 86400]
    files.failing = failing
    files.files = dict.fromkeys(files.files, 0.0 if failing else now[0])
    scrub = Scrub(files, busy=lambda: False, wall=lambda: now[0])
    async with running(scrub):
        await eventually(lambda: not files.failing)
        await asyncio.sleep(0.1)
        assert [] == files.findings
        now[0] -= 300 * 86400
        scrub.wake()
        await eventually(lambda: files.findings)


async def test_a_file_that_leaves_service_is_not_read_to_its_end(store: PieceStore) -> None:
    files, sleeps = Files(stored(store), digest=sha256(b"other")), list[float]()

    async def leave(seconds: float) -> None:
        sleeps.append(seconds)
        files.files.clear()

    async with running(Scrub(files, busy=lambda: False, sleep=leave)):
        await eventually(lambda: bool(sleeps))
        await asyncio.sleep(0.1)
    assert [] == files.findings
    assert 1 == len(sleeps), "the first pass of two"


async def test_the_thread_has_a_low_priority_and_no_other_thread_has(store: PieceStore) -> None:
    priorities: dict[str, int] = {}
    files = Files(stored(store))

    class Watched(Files):
        def serves(self, file: PieceFile, digest: str) -> bool:
            for thread in threading.enumerate():
                if thread.native_id is not None:
                    priorities[thread.name.partition("_")[0]] = os.getpriority(os.PRIO_PROCESS, thread.native_id)
            return super().serves(file, digest)

    watched = Watched(*files.files, digest=sha256(b"two passes"))
    async with running(Scrub(watched, busy=lambda: False)) as damaged:
        await eventually(lambda: bool(damaged))
    assert priorities.pop("scrub") > max(priorities.values())


@pytest.mark.virtual_time
async def test_an_idle_scrub_uses_no_cpu(store: PieceStore) -> None:
    files = Files(stored(store))
    looks = 0

    class Watched(Files):
        def candidates(self) -> list[ScrubCandidate]:
            nonlocal looks
            looks += 1
            return super().candidates()

    watched = Watched(*files.files)
    async with running(Scrub(watched, busy=lambda: False)):
        await eventually(lambda: bool(watched.findings))
        await asyncio.sleep(0.05)
        before = looks
        await asyncio.sleep(600)
        assert before == looks
