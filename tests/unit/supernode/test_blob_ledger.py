"""The record of kept blobs for the next process."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pantala_supernode.images.leases import KeptBlob
from pantala_supernode.images.ledger import BlobLedger
from tests.unit.supernode.conftest import Clock

pytestmark = pytest.mark.virtual_time

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


async def test_the_next_process_learns_when_each_blob_was_wanted(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "blobs.json"
    async with running(ledger(path, Leases(KeptBlob(DIGEST, "g", 5.0), KeptBlob(OTHER, "h", 0.0)), clock)):
        pass
    clock.now += 60
    leases = Leases()
    await ledger(path, leases, clock).restore()
    assert (KeptBlob(DIGEST, "g", 65.0), KeptBlob(OTHER, "h", 60.0)) == leases.blobs


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
    assert b"{}" == path.read_bytes()


async def test_the_last_change_is_written(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "blobs.json"
    async with running(ledger(path, Leases(KeptBlob(DIGEST, "g", 0.0)), clock)):
        await asyncio.sleep(LOOK)
        clock.now += 30
    leases = Leases()
    await ledger(path, leases, clock).restore()
    assert (KeptBlob(DIGEST, "g", 0.0),) == leases.blobs


async def test_a_failed_write_is_retried(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "missing" / "blobs.json"
    async with running(ledger(path, Leases(KeptBlob(DIGEST, "g", 0.0)), clock)):
        await asyncio.sleep(LOOK)
        assert not path.exists()
        path.parent.mkdir()
        await asyncio.sleep(61)
        assert path.exists()


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b'{"sha256:0":{"generation":"g","wanted":9e99}}'])
async def test_an_unreadable_record_is_empty(tmp_path: Path, clock: Clock, content: bytes | None) -> None:
    path = tmp_path / "blobs.json"
    path.mkdir() if content is None else path.write_bytes(content)
    leases = Leases(KeptBlob(DIGEST, "g", 0.0))
    await ledger(path, leases, clock).restore()
    assert () == leases.blobs


async def test_an_invalid_entry_is_left_out(tmp_path: Path, clock: Clock) -> None:
    path, leases = tmp_path / "blobs.json", Leases()
    path.write_text(f'{{"{DIGEST}":{{"generation":"g","wanted":999999}},"../x":{{"generation":"g","wanted":1}}}}')
    await ledger(path, leases, clock).restore()
    assert (KeptBlob(DIGEST, "g", 1.0),) == leases.blobs
