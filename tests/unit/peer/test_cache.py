"""The cache holds only verified pieces, and only whole verified files are published."""

import hashlib
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from pantala_peer.cache.pieces import PieceCache
from pantala_peer.errors import CorruptError, FileMismatchError, RotError, failed
from pantala_pieces.errors import PieceMissingError, StoreError, StoreFullError
from pantala_protocol.geometry import Geometry
from pantala_protocol.reasons import Reason
from pantala_protocol.sync import Assignment, HeldPieces, PieceWork

TASK = "a" * 64
PIECE = 1024
CONTENT = bytes(range(256)) * 12 + b"end"
GEOMETRY = Geometry(PIECE, len(CONTENT))
DIGEST = "sha256:" + hashlib.sha256(CONTENT).hexdigest()


def assignment(generation: str = "g", length: int | None = len(CONTENT), digest: str = DIGEST) -> Assignment:
    return Assignment(TASK, generation, PIECE, length, digest)


def piece(number: int, generation: str = "g") -> tuple[PieceWork, memoryview]:
    data = CONTENT[number * PIECE :][:PIECE]
    sha256 = hashlib.sha256(data).hexdigest()
    return PieceWork(TASK, generation, number, number * PIECE, len(data), sha256, "h", 1, "t"), memoryview(data)


@pytest.fixture
async def cache(tmp_path: Path) -> AsyncIterator[PieceCache]:
    made = PieceCache(tmp_path / "cache")
    await made.open()
    yield made
    made.close()


async def fill(cache: PieceCache, wanted: Assignment | None = None) -> None:
    await cache.hold(wanted or assignment())
    for number in range(GEOMETRY.pieces):
        await cache.put(*piece(number))


async def reopened(cache: PieceCache) -> tuple[PieceCache, list[str]]:
    cache.close()
    again = PieceCache(Path(cache._store.root))
    return again, await again.open()


async def test_verified_pieces_are_held_and_counted(cache: PieceCache) -> None:
    assert await cache.hold(assignment())
    await cache.put(*piece(1))
    await cache.put(*piece(1))
    assert {TASK: HeldPieces("g", "1")} == cache.inventory()
    assert PIECE == cache.total_bytes()
    assert cache.has(TASK, "g", 1)
    assert not cache.has(TASK, "g", 0)
    assert not cache.has(TASK, "other", 1)


async def test_a_wrong_piece_is_not_stored(cache: PieceCache) -> None:
    await cache.hold(assignment())
    work, data = piece(0)
    with pytest.raises(CorruptError):
        await cache.put(work, memoryview(bytes(len(data))))
    assert {} == cache.inventory()


@pytest.mark.parametrize("generation", ["old", ""])
async def test_a_piece_of_another_generation_is_not_stored(cache: PieceCache, generation: str) -> None:
    await cache.hold(assignment())
    with pytest.raises(PieceMissingError):
        await cache.put(*piece(0, generation))


async def test_a_whole_file_passes_the_check(cache: PieceCache) -> None:
    await cache.hold(assignment())
    for number in range(GEOMETRY.pieces):
        assert await cache.check(assignment()) is None
        await cache.put(*piece(number))
    file = await cache.check(assignment())
    assert file is not None
    assert CONTENT == file.path.read_bytes()


async def test_the_length_may_become_known_at_the_end(cache: PieceCache) -> None:
    await fill(cache, assignment(length=None, digest=""))
    assert not cache.is_whole(TASK)
    assert cache.fits(assignment())
    await cache.hold(assignment())
    assert cache.is_whole(TASK)
    assert await cache.check(assignment()) is not None


async def test_an_unknown_generation_keeps_the_pieces_and_prepares_no_file(cache: PieceCache) -> None:
    await fill(cache)
    assert cache.fits(assignment(generation=""))
    assert not await cache.hold(assignment(generation=""))
    assert cache.is_whole(TASK)


@pytest.mark.parametrize(
    "other", [assignment(generation="new"), assignment(length=5), Assignment(TASK, "g", 2 * PIECE, len(CONTENT))]
)
async def test_another_content_does_not_fit(cache: PieceCache, other: Assignment) -> None:
    await fill(cache)
    assert not cache.fits(other)


async def test_a_task_without_its_data_file_does_not_fit(cache: PieceCache) -> None:
    await fill(cache)
    cache.lookup(TASK).path.unlink()  # type: ignore[union-attr]
    assert not cache.fits(assignment())


async def test_f21_a_piece_that_rotted_is_not_held_after_a_restart(cache: PieceCache) -> None:
    await cache.hold(assignment())
    await cache.put(*piece(0))
    await cache.put(*piece(1))
    with cache.lookup(TASK).path.open("r+b") as data:  # type: ignore[union-attr]
        data.write(b"rot")
    again, _ = await reopened(cache)
    assert {TASK: HeldPieces("g", "1")} == again.inventory()
    again.close()


async def test_f21_a_whole_file_that_rotted_is_reported_and_dropped(cache: PieceCache) -> None:
    await fill(cache)
    await cache.check(assignment())
    rot(cache)
    again, rotten = await reopened(cache)
    assert [TASK] == rotten
    assert {} == again.inventory()
    again.close()


def rot(cache: PieceCache) -> None:
    path = cache.lookup(TASK).path  # type: ignore[union-attr]
    with path.open("r+b") as data:
        data.write(b"rot")
    os.utime(path, ns=(0, 0))


async def test_a_change_of_a_whole_file_is_noticed(cache: PieceCache) -> None:
    await fill(cache)
    assert await cache.check(assignment()) is not None
    rot(cache)
    with pytest.raises(RotError):
        await cache.check(assignment())
    assert {} == cache.inventory()


async def test_pieces_that_rot_before_the_check_are_forgotten(cache: PieceCache) -> None:
    await fill(cache)
    rot(cache)
    with pytest.raises(FileMismatchError):
        await cache.check(assignment())
    assert {TASK: HeldPieces("g", "1-3")} == cache.inventory()
    assert len(CONTENT) - PIECE == cache.total_bytes()
    await cache.put(*piece(0))
    assert await cache.check(assignment()) is not None


async def test_a_digest_that_contradicts_the_pieces_is_an_error_each_time(cache: PieceCache) -> None:
    await fill(cache)
    wrong = assignment(digest="sha256:" + "0" * 64)
    for _ in range(2):
        with pytest.raises(FileMismatchError) as raised:
            await cache.check(wrong)
    assert "Each piece is correct" in str(raised.value)
    assert cache.is_whole(TASK)
    assert await cache.check(assignment()) is not None


async def test_an_empty_file_is_whole_at_once(cache: PieceCache) -> None:
    empty = assignment(length=0, digest="sha256:" + hashlib.sha256(b"").hexdigest())
    await cache.hold(empty)
    file = await cache.check(empty)
    assert file is not None
    assert file.path.read_bytes() == b""


async def test_f3_a_file_that_does_not_fit_is_rejected_before_the_first_piece(cache: PieceCache) -> None:
    with pytest.raises(StoreFullError) as raised:
        await cache.hold(assignment(length=1 << 60))
    assert Reason.NODE_DISK_FULL == failed(raised.value).reason


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], check=True)
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


async def test_f3_a_full_disk_rejects_only_the_piece_that_does_not_fit(small_disk: Path) -> None:
    cache = PieceCache(small_disk / "cache")
    await cache.open()
    await cache.hold(assignment(length=None))
    await cache.put(*piece(0))
    filler = small_disk / "filler"
    with pytest.raises(OSError, match="No space"):
        filler.write_bytes(bytes(1 << 20))
    big = os.urandom(16 * 1024)
    work = PieceWork(TASK, "g", 20, 20 * PIECE, len(big), hashlib.sha256(big).hexdigest(), "h", 1, "t")
    with pytest.raises(StoreFullError):
        await cache.put(work, memoryview(big))
    assert {TASK: HeldPieces("g", "0")} == cache.inventory()
    filler.unlink()
    await cache.put(work, memoryview(big))
    assert {TASK: HeldPieces("g", "0,20")} == cache.inventory()
    cache.close()


async def test_a_disk_failure_has_its_reason(cache: PieceCache) -> None:
    await cache.hold(assignment())
    directory = cache.lookup(TASK).directory  # type: ignore[union-attr]
    await cache.drop(TASK)
    directory.touch()
    with pytest.raises(StoreError) as raised:
        await cache.hold(assignment())
    assert Reason.NODE_DISK_FAILED == failed(raised.value).reason
