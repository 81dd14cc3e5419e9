"""The CDN manager with single orders. A property test covers its whole life."""

import asyncio
import hashlib
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pantala_pieces.store import PieceStore
from pantala_protocol import task_id
from pantala_protocol.statement import CDNStatus
from pantala_supernode.cdn.manager import CDNManager
from pantala_supernode.cdn.table import CopyTable
from pantala_supernode.errors import VolumeFailedError
from pantala_supernode.tasks.copy import Copy, FetchOrder, FileSource
from tests.support.eventually import eventually
from tests.support.source import Content, FakeReader, Step

TASK = task_id.compute("test")


DIGEST = f"sha256:{hashlib.sha256(b'other').hexdigest()}"


class Bench:
    """A CDN on a fake origin, without waiting times; ``naps`` counts them."""

    def __init__(self, directory: Path, source: FakeReader) -> None:
        self.naps = 0
        self.cdn = CDNManager(
            CopyTable(PieceStore(directory, durable=False), lambda _: None),
            source,
            rng=random.Random(1),
            sleep=self._nap,
        )

    async def _nap(self, _: float) -> None:
        self.naps += 1

    async def until(self, wanted: Callable[[Copy], bool]) -> None:
        await eventually(lambda: wanted(self.cdn.status(TASK)), every=0.001)


async def test_only_a_new_attempt_retries_a_failed_copy(tmp_path: Path) -> None:
    source = FakeReader(Content(b"abc"))
    bench = Bench(tmp_path, source)
    await bench.cdn.recover()
    order = FetchOrder(TASK, FileSource("http://origin/file", digest=DIGEST))
    bench.cdn.trigger(order)
    await bench.until(lambda copy: copy.failure is not None)
    bench.cdn.trigger(replace(order, source=replace(order.source, priority=5)))
    bench.cdn.trigger(replace(order, source=replace(order.source, headers={"X": "y"})))
    bench.cdn.pause(TASK)
    bench.cdn.trigger(order)
    await asyncio.sleep(0.05)
    assert (1, CDNStatus.FAILED) == (len(source.requests), bench.cdn.status(TASK).status)
    source.content = Content(b"other")
    bench.cdn.trigger(replace(order, source=replace(order.source, attempt="2")))
    await bench.until(lambda copy: copy.status is CDNStatus.SUCCESS)
    assert len(source.requests) == 2
    await bench.cdn.copies.close()


async def test_nothing_starts_after_close(tmp_path: Path) -> None:
    """Requests under way may still ask for something while the process ends."""
    source = FakeReader(Content(b"abc"))
    bench = Bench(tmp_path, source)
    await bench.cdn.recover()
    await bench.cdn.copies.close()
    bench.cdn.trigger(FetchOrder(TASK, FileSource("http://origin/file")))
    with pytest.raises(VolumeFailedError, match="next start"):
        await bench.cdn.copies.delete(TASK)
    await asyncio.sleep(0.02)
    assert [] == source.requests


async def test_a_body_that_ends_too_early_is_a_cut(tmp_path: Path) -> None:
    content = Content(random.Random(0).randbytes(300_000), '"v1"')
    source = FakeReader(content, [Step(cut_after=200_000, framed=False)])
    bench = Bench(tmp_path, source)
    await bench.cdn.recover()
    bench.cdn.trigger(FetchOrder(TASK, FileSource("http://origin/file")))
    await bench.until(lambda copy: copy.status is CDNStatus.SUCCESS)
    assert (2, 1) == (len(source.requests), bench.naps)
    await bench.cdn.copies.close()


async def test_a_task_deleted_twice_in_one_moment_is_gone(tmp_path: Path) -> None:
    cdn = CDNManager(
        CopyTable(PieceStore(tmp_path, durable=False), lambda _: None),
        FakeReader(Content(b"abc")),
        rng=random.Random(1),
    )
    await cdn.recover()
    order = FetchOrder(TASK, FileSource("http://origin/file"))
    cdn.trigger(order)
    first = asyncio.create_task(cdn.copies.delete(TASK))
    await asyncio.sleep(0)
    cdn.trigger(order)
    async with asyncio.timeout(5):  # the second deletion and the work that it ends once waited for each other
        await cdn.copies.delete(TASK)
        await first
    assert Copy(TASK) == cdn.status(TASK)
    assert [] == [path for path in tmp_path.rglob("*") if path.is_file()]
    await cdn.copies.close()
