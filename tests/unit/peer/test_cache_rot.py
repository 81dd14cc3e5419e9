"""Files that change on the disk: the scrub finds them, and the cache repairs or drops them."""

import errno
import fcntl
import hashlib
import os
from pathlib import Path

import pytest
from msgspec import structs

from pantala_peer.cache.pieces import PieceCache
from pantala_peer.cache.publisher import PublicationRequest, Publisher
from pantala_peer.errors import RotError
from pantala_pieces.errors import StoreError
from pantala_pieces.file import PieceFile
from pantala_pieces.journal import JournalRecord
from pantala_pieces.meta import Meta
from pantala_pieces.store import PieceStore
from pantala_pieces.usage import Usage
from pantala_pieces.verification import FileVerdict, Finding
from pantala_protocol.sync import Assignment, HeldPieces
from tests.support.peer_cache import (
    CONTENT,
    DELIVERIES,
    DIGEST,
    PIECE,
    TASK,
    assignment,
    checked,
    fill,
    piece,
    reopened,
    scrubbed,
)


async def test_f21_a_piece_that_rotted_is_not_held_after_a_restart(cache: PieceCache) -> None:
    await cache.hold(assignment())
    cache.put(*piece(0))
    cache.put(*piece(1))
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


async def test_a_published_file_that_rotted_is_never_written_even_if_its_metadata_are_old(
    cache: PieceCache, tmp_path: Path
) -> None:
    """The metadata are not synced, so a crash of the machine may bring back the old ones."""
    await fill(cache)
    file = await checked(cache)
    file.update(structs.replace(file.meta, digest="", checked=0.0))
    os.link(file.path, tmp_path / "published")
    rot(cache)
    again, rotten = await reopened(cache)
    assert [TASK] == rotten
    await fill(again)
    assert b"rot" == (tmp_path / "published").read_bytes()[:3]
    again.close()


def rot(cache: PieceCache) -> None:
    path = cache.lookup(TASK).path  # type: ignore[union-attr]
    with path.open("r+b") as data:
        data.write(b"rot")
    os.utime(path, ns=(0, 0))


async def test_a_file_whose_pieces_came_in_order_is_not_read_again(cache: PieceCache) -> None:
    await fill(cache)
    file = await checked(cache)
    assert file.meta.checked
    assert [] == await scrubbed(cache)
    assert not cache.is_due(TASK)


async def test_a_file_whose_pieces_came_out_of_order_is_published_and_then_scrubbed(cache: PieceCache) -> None:
    await fill(cache, in_order=False)
    file = await checked(cache)
    assert not file.meta.checked
    assert cache.is_due(TASK)
    assert [FileVerdict.RIGHT] == await scrubbed(cache)
    assert file.meta.checked
    assert not cache.is_due(TASK)


async def test_a_change_of_a_whole_file_is_noticed(cache: PieceCache) -> None:
    await fill(cache)
    await checked(cache)
    assert [] == await scrubbed(cache)
    rot(cache)
    await checked(cache)
    assert [True] == [candidate.pressing for candidate in cache.candidates()]
    assert [FileVerdict.ROTTEN] == await scrubbed(cache)
    with pytest.raises(RotError):
        await cache.check(assignment())
    assert [] == list(cache.candidates())


def read_bytes() -> int:
    """The bytes that this process has read from files until now."""
    return int(Path("/proc/self/io").read_text().split("rchar: ")[1].split()[0])


async def test_the_publication_of_a_huge_file_reads_nothing_of_it(cache: PieceCache, tmp_path: Path) -> None:
    size, length = 1 << 30, 1 << 40
    digest = hashlib.sha256(b"whatever")
    file = cache._store.create(Meta(TASK, "g", size, length))
    file.path.touch()
    os.truncate(file.path, length)
    for number in range(length // size):
        file._hold([JournalRecord(number, size, digest.digest())])
    publisher = Publisher(tmp_path)
    publisher.open()
    before = read_bytes()
    whole = await cache.check(Assignment(TASK, "g", size, length, f"sha256:{digest.hexdigest()}", DELIVERIES))
    assert whole is file
    publisher.publish(PublicationRequest("huge", TASK, file.path, digest.hexdigest()))
    assert read_bytes() - before < 1 << 16
    assert length == (tmp_path / "files" / "huge").stat().st_size


async def test_a_file_that_was_only_touched_stays(cache: PieceCache) -> None:
    await fill(cache)
    file = await checked(cache)
    os.utime(file.path, ns=(0, 0))
    await cache.check(assignment())
    assert [FileVerdict.RIGHT] == await scrubbed(cache)
    assert not cache.is_due(TASK)
    assert file is await cache.check(assignment())


async def test_a_damaged_file_continues_in_a_copy(cache: PieceCache) -> None:
    """Programs may still read the published inode. Only the wrong piece is fetched again."""
    await fill(cache, in_order=False)
    file = await checked(cache)
    rot(cache)
    damaged = file.path.read_bytes()
    assert [FileVerdict.ROTTEN] == await scrubbed(cache)
    with file.path.open("rb") as program:
        await cache.repair(TASK)
        assert {TASK: HeldPieces("g", "1-3")} == cache.inventory()
        assert len(CONTENT) - PIECE == cache.total_bytes()
        await cache.hold(assignment())
        cache.put(*piece(0))
        assert damaged == program.read()
    assert await cache.check(assignment()) is file
    assert CONTENT == file.path.read_bytes()
    assert [FileVerdict.RIGHT] == await scrubbed(cache)


async def test_an_upload_during_a_repair_does_not_keep_the_copy_read_only(
    cache: PieceCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(cache, in_order=False)
    file = await checked(cache)
    rot(cache)
    await scrubbed(cache)

    def update(meta: Meta) -> None:
        with file.opened() as descriptor:  # an upload begins just now
            os.pread(descriptor, 1, PIECE)
        PieceFile.update(file, meta)

    monkeypatch.setattr(file, "update", update)
    await cache.repair(TASK)
    cache.put(*piece(0))
    assert CONTENT == file.path.read_bytes()


async def test_an_upload_during_the_completion_leaves_no_descriptor_that_can_write(
    cache: PieceCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(cache)
    file = cache.lookup(TASK)
    assert file is not None

    def update(meta: Meta) -> None:
        with file.opened() as descriptor:  # an upload begins just now
            os.pread(descriptor, 1, PIECE)
        PieceFile.update(file, meta)

    monkeypatch.setattr(file, "update", update)
    await checked(cache)
    with file.opened() as descriptor:
        assert os.O_RDONLY == fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE


async def test_a_damaged_file_without_room_for_a_copy_is_dropped(
    cache: PieceCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(cache, in_order=False)
    await cache.check(assignment())
    rot(cache)
    await scrubbed(cache)
    monkeypatch.setattr(PieceStore, "usage", lambda _: Usage(len(CONTENT) - 1, 1 << 40))
    await cache.repair(TASK)
    assert {} == cache.inventory()


@pytest.mark.parametrize("harm", ["longer", "shorter"])
async def test_a_file_of_another_size_is_rotten(cache: PieceCache, harm: str) -> None:
    await fill(cache, in_order=False)
    file = await checked(cache)
    os.truncate(file.path, len(CONTENT) + (1 if harm == "longer" else -1))
    assert [FileVerdict.ROTTEN] == await scrubbed(cache)
    await cache.repair(TASK)
    await fill(cache)
    await cache.check(assignment())
    assert CONTENT == file.path.read_bytes()


async def test_pieces_of_a_blob_that_rot_are_forgotten(cache: PieceCache) -> None:
    """A blob has no published file, so its pieces are repaired in place."""
    blob = assignment(deliveries=())
    await fill(cache, blob, in_order=False)
    file = await checked(cache, blob)
    assert not file.complete
    rot(cache)
    assert [FileVerdict.ROTTEN] == await scrubbed(cache)
    with pytest.raises(RotError):
        await cache.check(blob)
    await cache.repair(TASK)
    assert {TASK: HeldPieces("g", "1-3")} == cache.inventory()
    cache.put(*piece(0))
    assert await cache.check(blob) is file
    assert [FileVerdict.RIGHT] == await scrubbed(cache)
    assert file.complete


async def test_a_sync_that_fails_makes_the_cache_verify_all_pieces(
    cache: PieceCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After such a failure, the disk may have lost any of the bytes, and a second sync would succeed."""
    await fill(cache)

    def lose(_: int) -> None:
        rot(cache)
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", lose)
        with pytest.raises(StoreError):
            await cache.check(assignment())
    assert {TASK: HeldPieces("g", "1-3")} == cache.inventory()
    assert await cache.check(assignment()) is None
    cache.put(*piece(0))
    await checked(cache)


async def test_a_deleted_file_is_not_scrubbed_to_its_end(cache: PieceCache) -> None:
    await fill(cache, in_order=False)
    file = await checked(cache)
    await cache.drop(TASK)
    assert not cache.serves(file, DIGEST)
    await cache.conclude(file, DIGEST, Finding(FileVerdict.ROTTEN, 1))
    await fill(cache)
    await checked(cache)
