"""The pieces on the disk: the cache, its room for blobs, and its removal."""

import asyncio
import errno
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from pantala_peer.cache.pieces import PieceCache
from pantala_peer.cache.publisher import PublicationRequest, Publisher
from pantala_peer.cache.uninstall import clear
from pantala_peer.containerd import command
from pantala_peer.errors import FileMismatchError, RotError, failed
from pantala_peer.tasks.room import MAX_LIMIT, BlobRoom, usual_limit
from pantala_pieces.errors import PieceMissingError, StoreError, StoreFullError
from pantala_pieces.file import Meta, Piece, PieceFile
from pantala_pieces.journal import JournalRecord
from pantala_pieces.store import PieceStore
from pantala_pieces.usage import Usage
from pantala_pieces.verification import FileVerdict, Finding, VerificationPass
from pantala_protocol.geometry import Geometry
from pantala_protocol.reasons import Reason
from pantala_protocol.sync import Assignment, Delivery, HeldPieces, PieceWork
from tests.support.small_disk import small_disk

TASK = "a" * 64
PIECE = 1024
CONTENT = bytes(range(256)) * 12 + b"end"
GEOMETRY = Geometry(PIECE, len(CONTENT))
DIGEST = "sha256:" + hashlib.sha256(CONTENT).hexdigest()


WRONG_DIGEST = "sha256:" + "0" * 64
DELIVERIES = (Delivery("uid", "a"),)


def assignment(
    generation: str = "g",
    length: int | None = len(CONTENT),
    digest: str = DIGEST,
    deliveries: tuple[Delivery, ...] = DELIVERIES,
) -> Assignment:
    return Assignment(TASK, generation, PIECE, length, digest, deliveries)


def piece(number: int, generation: str = "g") -> tuple[PieceWork, Piece]:
    data = CONTENT[number * PIECE :][:PIECE]
    sha256 = hashlib.sha256(data)
    work = PieceWork(TASK, generation, number, number * PIECE, len(data), sha256.hexdigest(), "h", 1, "t")
    return work, Piece(number, data, sha256.digest())


@pytest.fixture
async def cache(tmp_path: Path) -> AsyncIterator[PieceCache]:
    made = PieceCache(tmp_path / "cache")
    await made.open()
    yield made
    made.close()


async def fill(cache: PieceCache, wanted: Assignment | None = None, *, in_order: bool = True) -> None:
    """Fill the cache. If the pieces come out of order, the digest of the whole file is not computed meanwhile."""
    await cache.hold(wanted or assignment())
    for number in range(GEOMETRY.pieces) if in_order else reversed(range(GEOMETRY.pieces)):
        cache.put(*piece(number))


async def scrubbed(cache: PieceCache) -> list[FileVerdict]:
    """Let the scrub verify all files that were never verified."""
    found = []
    for candidate in list(cache.candidates()):
        if candidate.pressing or not candidate.checked:
            verification = VerificationPass(candidate.file, candidate.digest)
            while (finding := verification.step()) is None:
                pass
            found.append(finding.verdict)
            await cache.conclude(candidate.file, candidate.digest, finding)
    return found


async def reopened(cache: PieceCache) -> tuple[PieceCache, list[str]]:
    cache.close()
    again = PieceCache(Path(cache._store.root))
    return again, await again.open()


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
    assert await cache.check(assignment()) is not None


async def test_a_whole_file_passes_the_check(cache: PieceCache) -> None:
    await cache.hold(assignment())
    for number in range(GEOMETRY.pieces):
        assert await cache.check(assignment()) is None
        cache.put(*piece(number))
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
    cache.lookup(TASK).path.unlink()  # type: ignore[union-attr]
    assert not cache.fits(assignment()), "its data file is removed"


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
    file = await cache.check(assignment())
    assert file is not None
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
    file = await cache.check(assignment())
    assert file is not None
    assert file.meta.checked
    assert [] == await scrubbed(cache)
    assert not cache.is_due(TASK)


async def test_a_file_whose_pieces_came_out_of_order_is_published_and_then_scrubbed(cache: PieceCache) -> None:
    await fill(cache, in_order=False)
    file = await cache.check(assignment())
    assert file is not None
    assert not file.meta.checked
    assert cache.is_due(TASK)
    assert [FileVerdict.RIGHT] == await scrubbed(cache)
    assert file.meta.checked
    assert not cache.is_due(TASK)


async def test_a_change_of_a_whole_file_is_noticed(cache: PieceCache) -> None:
    await fill(cache)
    assert await cache.check(assignment()) is not None
    assert [] == await scrubbed(cache)
    rot(cache)
    assert await cache.check(assignment()) is not None
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
    file = await cache.check(assignment())
    assert file is not None
    os.utime(file.path, ns=(0, 0))
    await cache.check(assignment())
    assert [FileVerdict.RIGHT] == await scrubbed(cache)
    assert not cache.is_due(TASK)
    assert file is await cache.check(assignment())


async def test_a_damaged_file_continues_in_a_copy(cache: PieceCache) -> None:
    """Programs may still read the published inode. Only the wrong piece is fetched again."""
    await fill(cache, in_order=False)
    file = await cache.check(assignment())
    assert file is not None
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
    file = await cache.check(assignment())
    assert file is not None
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
    file = await cache.check(assignment())
    assert file is not None
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
    file = await cache.check(blob)
    assert file is not None
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
    assert await cache.check(assignment()) is not None


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
    assert await cache.check(assignment()) is not None


async def test_a_contradiction_is_found_again_after_a_restart(cache: PieceCache) -> None:
    await fill(cache, in_order=False)
    wrong = assignment(digest=WRONG_DIGEST)
    await cache.check(wrong)
    again, rotten = await reopened(cache)
    assert [] == rotten
    with pytest.raises(FileMismatchError):
        await again.check(wrong)
    again.close()


async def test_a_file_of_one_piece_is_proven_by_its_piece(cache: PieceCache) -> None:
    content = CONTENT[:PIECE]
    sha256 = hashlib.sha256(content).hexdigest()
    small = assignment(length=PIECE, digest=f"sha256:{sha256}")
    await cache.hold(small)
    cache.put(*piece(0))
    with pytest.raises(FileMismatchError):
        await cache.check(assignment(length=PIECE, digest=WRONG_DIGEST))
    file = await cache.check(small)
    assert file is not None
    assert file.meta.checked


async def test_a_deleted_file_is_not_scrubbed_to_its_end(cache: PieceCache) -> None:
    await fill(cache, in_order=False)
    file = await cache.check(assignment())
    assert file is not None
    await cache.drop(TASK)
    assert not cache.serves(file, DIGEST)
    await cache.conclude(file, DIGEST, Finding(FileVerdict.ROTTEN, 1))
    await fill(cache)
    assert await cache.check(assignment()) is not None


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

    def denied(path: Path, *arguments: Any, **options: Any) -> int:
        if path == journal:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return opened(path, *arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", denied)
        with pytest.raises(StoreError, match="Permission denied"):
            await PieceCache(tmp_path / "cache").open()
    again = PieceCache(tmp_path / "cache")
    assert [] == await again.open()
    assert {TASK} == again.tasks()
    again.close()


async def test_a_data_file_that_the_disk_does_not_show_does_not_fit(
    cache: PieceCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk says EIO. An unknown exception would end the work on the task, and report nothing."""
    await fill(cache)

    def broken(path: Path, **_: Any) -> os.stat_result:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "stat", broken)
        assert not cache.fits(assignment())
    assert cache.fits(assignment())


async def test_an_empty_file_is_whole_at_once(cache: PieceCache) -> None:
    empty = assignment(length=0, digest="sha256:" + hashlib.sha256(b"").hexdigest())
    await cache.hold(empty)
    file = await cache.check(empty)
    assert file is not None
    assert file.path.read_bytes() == b""


@pytest.mark.parametrize("restarts", [False, True])
async def test_an_empty_file_that_was_removed_from_the_disk_is_made_again(tmp_path: Path, *, restarts: bool) -> None:
    empty, cache = assignment(length=0, digest="sha256:" + hashlib.sha256(b"").hexdigest()), PieceCache(tmp_path)
    await cache.open()
    await cache.hold(empty)
    file = await cache.check(empty)
    assert file is not None
    file.path.unlink()
    if restarts:
        cache.close()
        cache = PieceCache(tmp_path)
        assert [TASK] == await cache.open()
    elif not cache.fits(empty):
        await cache.drop(TASK)
    await cache.hold(empty)
    made = await cache.check(empty)
    assert made is not None
    assert b"" == made.path.read_bytes()
    cache.close()


async def test_f3_a_file_that_does_not_fit_is_rejected_before_the_first_piece(cache: PieceCache) -> None:
    with pytest.raises(StoreFullError) as raised:
        await cache.hold(structs.replace(assignment(length=1 << 44), piece_size=1 << 22))
    assert Reason.NODE_DISK_FULL == failed(raised.value).reason


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
        sha256 = hashlib.sha256(big)
        work = PieceWork(TASK, "g", 20, 20 * PIECE, len(big), sha256.hexdigest(), "h", 1, "t")
        large = Piece(20, big, sha256.digest())
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


FILE, BLOB = "a" * 64, "b" * 64
PUBLISHED_CONTENT = b"content"
PUBLISHED_SHA256 = hashlib.sha256(PUBLISHED_CONTENT)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with the pieces of a published file and of a blob."""
    store = PieceStore(tmp_path / "cache", durable=False)
    store.open()
    for name in (FILE, BLOB):
        store.create(Meta(name, "g", 1024, len(PUBLISHED_CONTENT))).put(
            [Piece(0, memoryview(PUBLISHED_CONTENT), PUBLISHED_SHA256.digest())]
        )
    store.close()
    publisher = Publisher(tmp_path)
    publisher.open()
    publisher.publish(
        PublicationRequest("some/where", FILE, tmp_path / "cache" / "aa" / FILE / "data", PUBLISHED_SHA256.hexdigest())
    )
    (tmp_path / "cache" / "images.json").write_bytes(b"{}")
    return tmp_path


def folders(root: Path) -> set[str]:
    return {str(path.relative_to(root)).partition("/")[0] for path in root.rglob("*")}


def test_published_files_stay_ours_and_everything_else_is_removed(root: Path) -> None:
    assert 1 == clear(root)
    assert [f"aa/{FILE}"] == [str(path.relative_to(root / "cache")) for path in root.glob("cache/*/*")]
    assert {"cache", "files", "published"} == folders(root)
    again = Publisher(root)
    again.open()
    assert ["some/where"] == again.paths(FILE)
    again.unpublish("some/where")
    assert 1 == clear(root)
    assert set() == folders(root)


def test_a_missing_root_is_not_created(tmp_path: Path) -> None:
    assert 0 == clear(tmp_path / "never")
    assert [] == list(tmp_path.iterdir())


def test_cleanup_clears_the_given_root(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directories = [f"--certs-d={root}/certs.d", f"--containerd-state={root}/containerd"]
    for flags, exists in (([], True), ([f"--root={root}"], False)):
        with pytest.raises(SystemExit, match="0"):
            command.main(["cleanup", *directories, *flags])
        assert exists == (root / "cache" / "bb" / BLOB).exists()
    assert "cached tasks removed: 1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("limit", "sizes", "free", "expected"),
    [
        (10, {"a": 5, "b": 5}, 0, []),
        (None, {"a": 1 << 60}, 0, []),
        (10, {"a": 5, "b": 5, "c": 5}, 0, ["b"]),
        (10, {"a": 5, "b": 5, "c": 5}, 6, ["b", "c"]),
        (10, {"a": 5, "earlier process": 5, "b": 5}, 0, ["earlier process"]),
        (1, {"incomplete": 5, "demanded": 5, "c": 5}, 0, ["c"]),
        (10, {"ordered": 4, "b": 5}, 6, []),
        (10, {"ordered": 4, "b": 5}, 5, ["b"]),
        (10, {"ordered": 9, "b": 5}, 6, ["b"]),
    ],
)
def test_the_blobs_used_longest_ago_are_dropped(
    limit: int | None, sizes: dict[str, int], free: int, expected: list[str]
) -> None:
    """Ordered, demanded and incomplete blobs stay. No blob is dropped if that cannot free enough."""
    room = BlobRoom(limit)
    room.order({"ordered"})
    for name in ("a", "b", "c", "a"):
        room.demand(name, demanded=False)
    room.demand("demanded", demanded=True)
    assert expected == room.surplus(sizes, lambda name: name != "incomplete", free=free)


def test_the_use_of_a_removed_blob_is_forgotten() -> None:
    room = BlobRoom(5)
    room.demand("a", demanded=False)
    room.forget_others([])
    assert ["a"] == room.surplus({"a": 5, "z": 5}, lambda _: True)


def test_the_usual_limit_is_a_tenth_of_a_small_disk() -> None:
    assert 10 == usual_limit(100)
    assert MAX_LIMIT == usual_limit(1 << 50)
