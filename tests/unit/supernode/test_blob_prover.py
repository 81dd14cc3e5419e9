"""Proofs and records of the blobs of registries."""

import asyncio
import contextlib
import hashlib
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pantala_pieces import records
from pantala_pieces.errors import PieceMissingError
from pantala_pieces.file import Meta, Piece
from pantala_pieces.store import PieceStore
from pantala_protocol.task_id import TaskID
from pantala_supernode.errors import SourceForbiddenError
from pantala_supernode.images import proofs
from pantala_supernode.images.leases import KeptBlob
from pantala_supernode.images.ledger import BlobLedger
from pantala_supernode.images.proofs import BlobProver
from pantala_supernode.origin.body import ChunkBody
from pantala_supernode.origin.source import Answer, Resume
from pantala_supernode.tasks.copy import Copy, FileSource
from tests.unit.supernode.conftest import Clock

TASK = TaskID("a" * 64)
SIZE = 1000
ORIGIN = FileSource("https://registry.example/v2/a/blobs/b", {"Authorization": "Bearer secret"})


class Registry:
    """Gives ``data`` from ``offset`` on, or from where it is asked, in small chunks."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.offset: int | None = None
        self.error: Exception | None = None
        self.hangs = False
        self.asked: list[Resume | None] = []

    @contextlib.asynccontextmanager
    async def open(self, source: FileSource, resume: Resume | None = None) -> AsyncIterator[Answer]:
        assert ORIGIN == source
        self.asked.append(resume)
        if self.hangs:
            await asyncio.sleep(60)
        if self.error is not None:
            raise self.error
        offset = self.offset if self.offset is not None else resume.offset if resume is not None else 0

        async def chunks() -> AsyncIterator[bytes]:
            for start in range(offset, len(self.data), 7):
                yield self.data[start : start + 7]

        yield Answer(len(self.data), offset, "", "", True, ChunkBody(chunks()))


class Bench:
    def __init__(self, root: Path, data: bytes) -> None:
        self.store = PieceStore(root, durable=False)
        self.store.open()
        self.told: list[bool] = []
        self.registry = Registry(data)
        pieces = [data[start : start + SIZE] for start in range(0, len(data), SIZE)]
        self.file = self.store.create(Meta(TASK, "g", SIZE, len(data)))
        self.file.put(Piece(n, piece, hashlib.sha256(piece).digest()) for n, piece in enumerate(pieces))
        self.copy = Copy(TASK, generation="g", piece_size=SIZE, length=len(data), cached=self.file.have)
        self.proofs = BlobProver(self.store, self.registry, random.Random(1))

    async def ask(self) -> bool:
        self.proofs.ask(self.copy, ORIGIN, lambda *said: self.told.append(said[2]))
        await asyncio.gather(*self.proofs._checks.values())
        return self.told.pop()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path, random.Random(2).randbytes(3 * SIZE + 20))


async def test_a_few_equal_bytes_at_a_random_position_are_a_proof(bench: Bench) -> None:
    for _ in range(30):
        assert await bench.ask()
    spans = [(asked.offset, asked.end) for asked in bench.registry.asked if asked is not None]
    assert all(end is not None and 0 < end - start <= 64 for start, end in spans)
    assert 15 < len(set(spans))


@pytest.mark.parametrize("offset", [0, None])
async def test_other_bytes_are_not_a_proof(bench: Bench, offset: int | None) -> None:
    bench.registry.data, bench.registry.offset = bytes(len(bench.registry.data)), offset
    assert not await bench.ask()


async def test_an_answer_without_ranges_is_read_up_to_the_position(bench: Bench) -> None:
    bench.registry.offset = 0
    for _ in range(10):
        assert await bench.ask()


async def test_an_answer_with_the_wrong_range_is_not_a_proof(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    data = bench.registry.data
    bench.registry.offset = len(data)
    assert not await bench.ask()
    bench.registry.offset, bench.registry.data = None, b""
    assert not await bench.ask()
    bench.registry.offset, bench.registry.data = 0, data
    monkeypatch.setattr(proofs, "_SKIPPED", -1)
    assert not await bench.ask()


@pytest.mark.virtual_time
async def test_a_refusal_or_a_late_answer_is_not_a_proof(bench: Bench) -> None:
    bench.registry.error = SourceForbiddenError("no")
    assert not await bench.ask()
    bench.registry.error, bench.registry.hangs = None, True
    assert not await bench.ask()


async def test_a_piece_that_left_the_volume_is_not_checked(bench: Bench) -> None:
    bench.file.forget(bench.file.have & ~0b10)
    for _ in range(5):
        assert await bench.ask()  # of what is left
    bench.registry.asked.clear()
    bench.file.forget(bench.file.have)
    assert not await bench.ask()
    bench.store.delete(TASK)
    assert not await bench.ask()
    assert [] == bench.registry.asked


async def test_a_piece_that_goes_bad_meanwhile_is_not_a_proof(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(piece: int) -> bytes:
        raise PieceMissingError(f"piece {piece} is not held")

    monkeypatch.setattr(bench.file, "read", read)
    assert not await bench.ask()


async def test_an_empty_blob_is_proved_by_an_empty_answer(tmp_path: Path) -> None:
    bench = Bench(tmp_path, b"")
    bench.file.put([Piece(0, b"", hashlib.sha256(b"").digest())])
    bench.copy = Copy(TASK, generation="g", piece_size=SIZE, length=0, cached=1)
    assert await bench.ask()
    bench.registry.data = b"more"
    assert not await bench.ask()
    assert [None, None] == bench.registry.asked


async def test_equal_checks_are_shared_and_end_with_close(bench: Bench) -> None:
    bench.registry.hangs = True
    for _ in range(3):
        bench.proofs.ask(bench.copy, ORIGIN, lambda *said: bench.told.append(said[2]))
    await asyncio.sleep(0.01)
    assert 1 == len(bench.registry.asked)
    await bench.proofs.close()
    assert ([], {}) == (bench.told, bench.proofs._checks)


LOOK = 1.5
"""Seconds in which the ledger looks at the blobs once."""
DIGEST, OTHER = "sha256:" + "a" * 64, "sha512:" + "b" * 128


class Leases:
    def __init__(self, *kept: KeptBlob) -> None:
        self.blobs = kept

    def kept(self) -> tuple[KeptBlob, ...]:
        return self.blobs

    def restore(self, kept: tuple[KeptBlob, ...]) -> None:
        self.blobs = kept


def ledger(path: Path, leases: Leases, clock: Clock) -> BlobLedger:
    return BlobLedger(path, leases, wall=clock)  # type: ignore[arg-type]


@pytest.fixture
def clock() -> Clock:
    return Clock(1_000_000.0)


@contextlib.asynccontextmanager
async def running(made: BlobLedger) -> AsyncIterator[None]:
    task = asyncio.create_task(made.run())
    try:
        yield
        await asyncio.sleep(LOOK)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.virtual_time
async def test_the_next_process_learns_when_each_blob_was_wanted(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "blobs.json"
    async with running(ledger(path, Leases(KeptBlob(DIGEST, "g", 5.0), KeptBlob(OTHER, "h", 0.0)), clock)):
        pass
    clock.now += 60
    leases = Leases()
    await ledger(path, leases, clock).restore()
    assert (KeptBlob(DIGEST, "g", 65.0), KeptBlob(OTHER, "h", 60.0)) == leases.blobs


@pytest.mark.virtual_time
async def test_only_changes_are_written(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "blobs.json"
    leases = Leases(KeptBlob(DIGEST, "g", 0.0))
    async with running(ledger(path, leases, clock)):
        await asyncio.sleep(LOOK)
        first = path.stat()
        clock.now += 59
        await asyncio.sleep(LOOK)
        assert first.st_ino == path.stat().st_ino
        clock.now += 1
        await asyncio.sleep(LOOK)
        assert first.st_ino != path.stat().st_ino
        second = path.stat()
        leases.blobs = (KeptBlob(DIGEST, "another", 0.0),)
        await asyncio.sleep(LOOK)
        assert second.st_mtime_ns != path.stat().st_mtime_ns
        assert b"another" in path.read_bytes()
        leases.blobs = ()
    assert {} == records.load(path, dict)


@pytest.mark.virtual_time
async def test_the_last_change_is_written(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "blobs.json"
    async with running(ledger(path, Leases(KeptBlob(DIGEST, "g", 0.0)), clock)):
        await asyncio.sleep(LOOK)
        clock.now += 30
    leases = Leases()
    await ledger(path, leases, clock).restore()
    assert (KeptBlob(DIGEST, "g", 0.0),) == leases.blobs


@pytest.mark.virtual_time
async def test_a_failed_write_is_retried(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "missing" / "blobs.json"
    async with running(ledger(path, Leases(KeptBlob(DIGEST, "g", 0.0)), clock)):
        await asyncio.sleep(LOOK)
        assert not path.exists()
        path.parent.mkdir()
        await asyncio.sleep(61)
        assert path.exists()


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b'{"sha256:0":{"generation":"g","wanted":9e99}}'])
@pytest.mark.virtual_time
async def test_an_unreadable_record_is_empty(tmp_path: Path, clock: Clock, content: bytes | None) -> None:
    path = tmp_path / "blobs.json"
    path.mkdir() if content is None else path.write_bytes(content)
    leases = Leases(KeptBlob(DIGEST, "g", 0.0))
    await ledger(path, leases, clock).restore()
    assert () == leases.blobs


@pytest.mark.virtual_time
async def test_an_invalid_entry_is_left_out(tmp_path: Path, clock: Clock) -> None:
    path, leases = tmp_path / "blobs.json", Leases()
    path.write_text(f'{{"{DIGEST}":{{"generation":"g","wanted":999999.0}},"../x":{{"generation":"g","wanted":1.0}}}}')
    await ledger(path, leases, clock).restore()
    assert (KeptBlob(DIGEST, "g", 1.0),) == leases.blobs
