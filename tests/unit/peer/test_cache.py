"""The pieces on the disk."""

import asyncio
import errno
import hashlib
import os
from pathlib import Path
from typing import Any, NoReturn

import pytest
from msgspec import structs

from pantala_peer.cache import pieces
from pantala_peer.cache.pieces import PieceCache
from pantala_peer.errors import FileMismatchError, failed
from pantala_pieces.digests import PieceHash
from pantala_pieces.errors import PieceMissingError, StoreError, StoreFullError
from pantala_pieces.file import Piece
from pantala_pieces.verification import FileVerdict
from pantala_protocol.reasons import Reason
from pantala_protocol.sync import Assignment, HeldPieces, PieceWork
from tests.support.peer_cache import (
    CONTENT,
    GEOMETRY,
    PIECE,
    TASK,
    WRONG_DIGEST,
    assignment,
    checked,
    fill,
    piece,
    reopened,
    scrubbed,
)
from tests.support.small_disk import small_disk


async def test_verified_pieces_are_held_and_counted(cache: PieceCache) -> None:
    assert await cache.hold(assignment())
    cache.put(*piece(1))
    cache.put(*piece(1))
    assert {TASK: HeldPieces("g", "1")} == cache.inventory()
    assert PIECE == cache.total_bytes()
    assert cache.has(TASK, "g", 1)
    assert not cache.has(TASK, "g", 0)
    assert not cache.has(TASK, "other", 1)


@pytest.mark.parametrize("generation", ["old", ""])
async def test_a_piece_of_another_generation_is_not_stored(cache: PieceCache, generation: str) -> None:
    await cache.hold(assignment())
    with pytest.raises(PieceMissingError):
        cache.put(*piece(0, generation))
    assert {} == cache.inventory()


async def test_several_threads_store_pieces(cache: PieceCache) -> None:
    await cache.hold(assignment())
    numbers = [*range(GEOMETRY.pieces)] * 3
    await asyncio.gather(*(asyncio.to_thread(cache.put, *piece(number)) for number in numbers))
    assert len(CONTENT) == cache.total_bytes()
    assert {TASK: HeldPieces("g", "0-3")} == cache.inventory()
    await checked(cache)


async def test_a_whole_file_passes_the_check(cache: PieceCache) -> None:
    await cache.hold(assignment())
    for number in range(GEOMETRY.pieces):
        assert await cache.check(assignment()) is None
        cache.put(*piece(number))
    file = await checked(cache)
    assert CONTENT == file.path.read_bytes()


async def test_the_length_may_become_known_at_the_end(cache: PieceCache) -> None:
    await fill(cache, assignment(length=None, digest=""))
    assert not cache.is_whole(TASK)
    assert cache.fits(assignment())
    await cache.hold(assignment())
    assert cache.is_whole(TASK)
    await checked(cache)


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
    cache.lookup(TASK).path.unlink()  # type: ignore[union-attr]
    assert not cache.fits(assignment()), "its data file is removed"


@pytest.mark.parametrize(
    ("number", "fits"),
    [(errno.EACCES, False), (errno.EIO, False), (errno.ENOENT, False), (errno.EMFILE, True), (errno.ENOMEM, True)],
)
async def test_only_lost_or_denied_data_does_not_fit(
    cache: PieceCache, monkeypatch: pytest.MonkeyPatch, number: int, *, fits: bool
) -> None:
    await fill(cache)

    def fail(*_: object) -> NoReturn:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(pieces, "opened", fail)
    assert fits == cache.fits(assignment())


@pytest.mark.parametrize("in_order", [True, False])
async def test_a_digest_that_contradicts_the_pieces_is_an_error_each_time(cache: PieceCache, in_order: bool) -> None:
    """If the pieces came in order, the file is never published. Otherwise the scrub finds it."""
    await fill(cache, in_order=in_order)
    wrong = assignment(digest=WRONG_DIGEST)
    if not in_order:
        assert await cache.check(wrong) is not None
        assert [FileVerdict.CONTRADICTED] == await scrubbed(cache)
    for _ in range(2):
        with pytest.raises(FileMismatchError) as raised:
            await cache.check(wrong)
    assert "Each piece is right" in str(raised.value)
    assert cache.is_whole(TASK)
    assert [] == await scrubbed(cache)
    await checked(cache)


async def test_a_contradiction_is_found_again_after_a_restart(cache: PieceCache) -> None:
    await fill(cache, in_order=False)
    wrong = assignment(digest=WRONG_DIGEST)
    await cache.check(wrong)
    again, rotten = await reopened(cache)
    assert [] == rotten
    with pytest.raises(FileMismatchError):
        await again.check(wrong)
    again.close()


async def test_a_file_of_one_piece_is_proven_when_the_piece_arrives(cache: PieceCache) -> None:
    content = CONTENT[:PIECE]
    sha256 = hashlib.sha256(content).hexdigest()
    small = assignment(length=PIECE, digest=f"sha256:{sha256}")
    await cache.hold(small)
    cache.put(*piece(0))
    with pytest.raises(FileMismatchError):
        await cache.check(assignment(length=PIECE, digest=WRONG_DIGEST))
    file = await checked(cache, small)
    assert file.meta.checked


@pytest.mark.parametrize("removable", [True, False])
async def test_an_unreadable_file_costs_only_its_own_pieces(
    cache: PieceCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, removable: bool
) -> None:
    """The inode of a journal is damaged. The peer used to stop at each start."""
    await fill(cache)
    other = structs.replace(assignment(), task_id="b" * 64)
    await cache.hold(other)
    file = cache.lookup(TASK)
    assert file is not None
    journal, opened, unlink = file.directory / "journal", os.open, Path.unlink
    cache.close()

    def broken(path: Path, *arguments: Any, **options: Any) -> int:
        if path == journal:
            raise OSError(errno.EUCLEAN, os.strerror(errno.EUCLEAN), str(path))
        return opened(path, *arguments, **options)

    monkeypatch.setattr(os, "open", broken)
    if not removable:
        monkeypatch.setattr(Path, "unlink", lambda path, **more: broken(path, 0) if path == journal else unlink(path))
    again = PieceCache(tmp_path / "cache")
    assert [] == await again.open()
    assert {other.task_id} == again.tasks()
    again.close()


async def test_an_error_that_may_pass_deletes_no_piece(
    cache: PieceCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(cache)
    file = cache.lookup(TASK)
    assert file is not None
    journal, opened = file.directory / "journal", os.open
    cache.close()

    def read_only(path: Path, *arguments: Any, **options: Any) -> int:
        if path == journal:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return opened(path, *arguments, **options)

    again = PieceCache(tmp_path / "cache")
    with monkeypatch.context() as patched:
        patched.setattr(os, "open", read_only)
        assert [] == await again.open()
        with pytest.raises(StoreError, match="Read-only"):
            await again.verify(TASK)
    assert ({TASK}, {}) == (again.unread, again.inventory())
    assert await again.verify(TASK)
    assert (set(), {TASK}) == (again.unread, set(again.inventory()))
    again.close()


async def test_an_empty_file_is_whole_at_once(cache: PieceCache) -> None:
    empty = assignment(length=0, digest="sha256:" + hashlib.sha256(b"").hexdigest())
    await cache.hold(empty)
    file = await checked(cache, empty)
    assert file.path.read_bytes() == b""


@pytest.mark.parametrize("restarts", [False, True])
async def test_an_empty_file_that_was_removed_from_the_disk_is_made_again(tmp_path: Path, *, restarts: bool) -> None:
    empty, cache = assignment(length=0, digest="sha256:" + hashlib.sha256(b"").hexdigest()), PieceCache(tmp_path)
    await cache.open()
    await cache.hold(empty)
    file = await checked(cache, empty)
    file.path.unlink()
    if restarts:
        cache.close()
        cache = PieceCache(tmp_path)
        assert [TASK] == await cache.open()
    elif not cache.fits(empty):
        await cache.drop(TASK)
    await cache.hold(empty)
    made = await checked(cache, empty)
    assert b"" == made.path.read_bytes()
    cache.close()


async def test_f3_a_file_that_does_not_fit_is_rejected_before_the_first_piece(cache: PieceCache) -> None:
    with pytest.raises(StoreFullError) as raised:
        await cache.hold(structs.replace(assignment(length=1 << 44), piece_size=1 << 22))
    state = failed(raised.value)
    assert Reason.NODE_DISK_FULL == state.reason
    assert state.message.startswith("The node's disk has no room for the file: 16TiB are needed, but only ")
    assert "/" not in state.message


async def test_f3_room_that_a_disk_reserves_only_in_part_is_free_again(
    cache: PieceCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ext4 does so if a quota ends, or if another program fills the disk. The peer kept the rest of the disk."""
    allocate = os.posix_fallocate

    def in_part(fd: int, offset: int, length: int) -> None:
        allocate(fd, offset, length // 2)
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(os, "posix_fallocate", in_part)
    with pytest.raises(StoreFullError):
        await cache.hold(assignment())
    assert [] == list(tmp_path.rglob("data"))


async def test_h2_an_assignment_with_too_many_pieces_is_rejected(cache: PieceCache) -> None:
    with pytest.raises(StoreError, match="cannot have pieces"):
        await cache.hold(assignment(length=1 << 52))


async def test_h2_a_length_that_becomes_known_and_needs_too_many_pieces_is_rejected(cache: PieceCache) -> None:
    await cache.hold(assignment(length=None))
    cache.put(*piece(0))
    with pytest.raises(StoreError, match="cannot have pieces"):
        await cache.hold(assignment(length=1 << 52))


async def test_f3_a_full_disk_rejects_only_the_piece_that_does_not_fit(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1 << 16) as disk:
        cache = PieceCache(disk / "cache")
        await cache.open()
        await cache.hold(assignment(length=None))
        cache.put(*piece(0))
        filler = disk / "filler"
        with pytest.raises(OSError, match="No space"):
            filler.write_bytes(bytes(1 << 20))
        big = os.urandom(16 * 1024)
        digest = PieceHash(big)
        work = PieceWork(TASK, "g", 20, 20 * PIECE, len(big), "h", 1, "t", digest=digest.hexdigest())
        large = Piece(20, big, digest.digest())
        with pytest.raises(StoreFullError):
            cache.put(work, large)
        assert {TASK: HeldPieces("g", "0")} == cache.inventory()
        filler.unlink()
        cache.put(work, large)
        assert {TASK: HeldPieces("g", "0,20")} == cache.inventory()
        cache.close()


async def test_a_disk_failure_has_its_reason(cache: PieceCache) -> None:
    await cache.hold(assignment())
    directory = cache.lookup(TASK).directory  # type: ignore[union-attr]
    await cache.drop(TASK)
    directory.parent.rmdir()
    directory.parent.touch()
    with pytest.raises(StoreError) as raised:
        await cache.hold(assignment())
    assert Reason.NODE_DISK_FAILED == failed(raised.value).reason
