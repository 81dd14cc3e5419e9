"""The CDN manager with single orders. A property test covers its whole life."""

import asyncio
import hashlib
import random
from dataclasses import replace
from pathlib import Path

import pytest

from pantala_protocol.statement import CDNStatus
from pantala_supernode.errors import VolumeFailedError
from pantala_supernode.tasks.copy import Copy, FetchOrder, FileSource
from tests.support.cdn import TASK, cdn_bench
from tests.support.source import Content, FakeReader, Step

ORDER = FetchOrder(TASK, FileSource("http://origin/file"))
DIGEST = f"sha256:{hashlib.sha256(b'other').hexdigest()}"


async def test_only_a_new_attempt_retries_a_failed_copy(tmp_path: Path) -> None:
    source = FakeReader(Content(b"abc"))
    order = replace(ORDER, source=replace(ORDER.source, digest=DIGEST))
    async with cdn_bench(tmp_path, source) as bench:
        bench.cdn.trigger(order)
        await bench.failure()
        bench.cdn.trigger(replace(order, source=replace(order.source, priority=5)))
        bench.cdn.trigger(replace(order, source=replace(order.source, headers={"X": "y"})))
        bench.cdn.pause(TASK)
        bench.cdn.trigger(order)
        await asyncio.sleep(0.05)
        assert (1, CDNStatus.FAILED) == (len(source.requests), bench.cdn.status(TASK).status)
        source.content = Content(b"other")
        bench.cdn.trigger(replace(order, source=replace(order.source, attempt="2")))
        await bench.whole(b"other")
        assert 2 == len(source.requests)


async def test_nothing_starts_after_close(tmp_path: Path) -> None:
    """Requests under way may still order something while the process ends."""
    source = FakeReader(Content(b"abc"))
    async with cdn_bench(tmp_path, source) as bench:
        await bench.cdn.copies.close()
        bench.cdn.trigger(ORDER)
        with pytest.raises(VolumeFailedError, match="next start"):
            await bench.cdn.copies.delete(TASK)
        await asyncio.sleep(0.02)
    assert [] == source.requests


async def test_a_body_that_ends_too_early_is_a_cut(tmp_path: Path) -> None:
    content = Content(random.Random(0).randbytes(300_000), '"v1"')
    source = FakeReader(content, [Step(cut_after=200_000, framed=False)])
    async with cdn_bench(tmp_path, source) as bench:
        bench.cdn.trigger(ORDER)
        await bench.whole(content.data)
        assert (2, 1) == (len(source.requests), len(bench.delays))


async def test_a_task_deleted_twice_in_one_moment_is_gone(tmp_path: Path) -> None:
    async with cdn_bench(tmp_path, FakeReader(Content(b"abc"))) as bench:
        bench.cdn.trigger(ORDER)
        first = asyncio.create_task(bench.cdn.copies.delete(TASK))
        await asyncio.sleep(0)
        bench.cdn.trigger(ORDER)
        async with asyncio.timeout(5):  # the second deletion must not wait for the job that it ends
            await bench.cdn.copies.delete(TASK)
            await first
        assert Copy(TASK) == bench.cdn.status(TASK)
        assert [] == [path for path in tmp_path.rglob("*") if path.is_file()]
