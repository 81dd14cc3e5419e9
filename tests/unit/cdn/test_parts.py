"""The parts of the CDN."""

import asyncio
import errno
import hashlib
import itertools
import os
import random
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pantala_pieces.errors import StoreError, StoreFullError, store_errors
from pantala_process.fair import Claim
from pantala_protocol.statement import CDNStatus
from pantala_supernode import errors
from pantala_supernode.cdn.disk import SerialExecutor
from pantala_supernode.cdn.intake import Pipeline
from pantala_supernode.errors import VolumeFailedError
from pantala_supernode.origin.body import PART, BlockCutter, BlockPool, Layout
from pantala_supernode.origin.limits import Gate
from pantala_supernode.tasks.copy import Copy, FetchOrder, FileSource
from tests.support.cdn import TASK, CDNBench
from tests.support.source import Content, FakeReader, Step


@given(
    data=st.binary(max_size=200),
    size=st.integers(1, 50),
    skip=st.integers(0, 250),
    cuts=st.lists(st.integers(0, 200), max_size=8),
)
def test_blocks_join_to_their_stream(data: bytes, size: int, skip: int, cuts: list[int]) -> None:
    pool, complete = BlockPool(), []
    other = BlockCutter(Layout(size, pool=pool))
    pool.give(*other.cut(bytes(size)))  # on another connection that continues
    cutter = BlockCutter(Layout(size, skip, pool=pool))
    edges = sorted({0, len(data), *(min(cut, len(data)) for cut in cuts)})
    for a, b in itertools.pairwise(edges):
        for block in cutter.cut(data[a:b]):
            complete.append(bytes(block))
            pool.give(block)
    rest = list(cutter.rest())
    assert data[skip:] == b"".join(complete) + b"".join(rest)
    assert all(size == len(block) for block in complete)
    assert all(0 < len(block) < size for block in rest)


@pytest.mark.parametrize(
    ("rate", "expected"),
    [(600e6, []), (10e6, [(0, PART), (PART, PART), (2 * PART, PART), (3 * PART, PART)])],
    ids=["fast", "slow"],
)
def test_the_parts_of_a_block_are_saved_unless_it_is_complete_in_a_moment(
    rate: float, expected: list[tuple[int, int]]
) -> None:
    """A slow block is saved until its rest needs less than 20 ms. Its end makes the part a whole piece."""
    saved: list[tuple[int, int]] = []
    now, size, chunk = 0.0, 8 * PART, PART // 8
    layout = Layout(size, save=lambda _number, start, data: saved.append((start, len(data))), clock=lambda: now)
    cutter = BlockCutter(layout)
    for _ in range(0, size, chunk):
        now += chunk / rate
        list(cutter.cut(bytes(chunk)))
    assert expected == saved[:4]
    assert (size if expected else 0) == sum(length for _, length in saved)


async def test_the_gate_admits_by_priority_and_never_too_many() -> None:
    gate, order, inside = Gate(2), [], 0

    async def visit(name: str, priority: int) -> None:
        nonlocal inside
        async with gate.place(Claim(priority=priority)):
            inside += 1
            assert inside <= 2
            order.append(name)
            await asyncio.sleep(0.01)
            inside -= 1

    first = [asyncio.create_task(visit(name, 0)) for name in "ab"]
    await asyncio.sleep(0)
    rest = [asyncio.create_task(visit(name, priority)) for name, priority in (("c", 0), ("d", 5), ("e", 0), ("f", 9))]
    await asyncio.sleep(0)
    await asyncio.gather(*first, *rest)
    assert list("abfdce") == order


@pytest.mark.parametrize("seed", range(20))
async def test_a_cancelled_holder_frees_its_place(seed: int) -> None:
    gate, rng = Gate(1), random.Random(seed)

    async def visit() -> None:
        async with gate.place(Claim()):
            await asyncio.sleep(0)

    visitors = [asyncio.create_task(visit()) for _ in range(20)]
    for _ in range(15):
        await asyncio.sleep(0)
        rng.choice(visitors).cancel()
    await asyncio.gather(*visitors, return_exceptions=True)
    async with asyncio.timeout(1), gate.place(Claim()):
        pass


@pytest.mark.parametrize(
    ("raised", "expected", "message"),
    [
        (
            StoreFullError("cannot reserve 5 bytes of /srv/data: only 3 bytes are free", "only 3 bytes are free"),
            errors.VolumeFullError,
            "The supernode's volume has no room for the file: only 3 bytes are free. Delete Tasks",
        ),
        (
            StoreError("cannot write /srv/data: it said no"),
            errors.VolumeFailedError,
            "The supernode's volume failed: cannot write /srv/data: it said no. ",
        ),
    ],
    ids=["full", "failed"],
)
async def test_store_errors_are_volume_errors(
    raised: StoreError, expected: type[errors.SupernodeError], message: str
) -> None:
    """That a volume is full is for users, so the message names no path of the supernode."""

    def job() -> None:
        raise raised

    with ThreadPoolExecutor(1) as threads, pytest.raises(expected, match=f"^{re.escape(message)}"):
        await SerialExecutor(threads).run(job)


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.EACCES, "Permission denied. Give the user {user}, as which this process runs, access to it"),
        (errno.EROFS, "Read-only file system. Mount the disk so that this process can write to it"),
        (errno.EIO, "Input/output error. The disk is damaged. Check it with fsck"),
        (errno.EBUSY, "Device or resource busy"),
    ],
)
def test_an_error_of_the_disk_says_what_to_do(number: int, advice: str) -> None:
    with (
        pytest.raises(StoreError, match=f"^{re.escape(f'cannot open it: {advice.format(user=os.geteuid())}')}$"),
        store_errors("open it"),
    ):
        raise OSError(number, os.strerror(number))


async def test_a_started_job_is_awaited_and_jobs_never_overlap() -> None:
    release, log = Event(), []

    def slow() -> None:
        release.wait(5)
        log.append("slow")

    with ThreadPoolExecutor(4) as threads:
        lane = SerialExecutor(threads)
        first = asyncio.create_task(lane.run(slow))
        second = asyncio.create_task(lane.run(lambda: log.append("second")))
        await asyncio.sleep(0.01)
        first.cancel()
        await asyncio.sleep(0.01)
        assert not first.done()
        release.set()
        await asyncio.gather(first, second, return_exceptions=True)
    assert first.cancelled()
    assert ["slow", "second"] == log


async def test_the_pipeline_groups_pieces_and_bounds_its_memory() -> None:
    groups: list[list[int]] = []
    going = asyncio.Event()

    async def keep(pieces: dict[int, bytearray]) -> None:
        groups.append(sorted(pieces))
        await going.wait()

    pipeline = Pipeline(keep, bound=40)
    for number in range(4):
        await pipeline.give(number, bytearray(10))
    fifth = asyncio.create_task(pipeline.give(4, bytearray(10)))
    await asyncio.sleep(0.01)
    assert not fifth.done()
    going.set()
    await fifth
    await pipeline.drain()
    assert [0, 1, 2, 3, 4] == [number for group in groups for number in group]
    assert len(groups) < 5


async def test_the_pipeline_takes_a_piece_larger_than_its_bound() -> None:
    kept: dict[int, bytearray] = {}

    async def keep(pieces: dict[int, bytearray]) -> None:
        kept.update(pieces)

    pipeline = Pipeline(keep, bound=1)
    for number in range(3):
        await pipeline.give(number, bytearray(10))
    await pipeline.drain()
    assert [0, 1, 2] == list(kept)


async def test_a_disk_error_ends_the_pipeline() -> None:
    async def keep(_: dict[int, bytearray]) -> None:
        raise errors.VolumeFullError("no room")

    pipeline = Pipeline(keep, bound=10)
    await pipeline.give(0, bytearray(10))
    with pytest.raises(errors.VolumeFullError):
        await pipeline.give(1, bytearray(10))
    with pytest.raises(errors.VolumeFullError):
        await pipeline.drain()


ORDER = FetchOrder(TASK, FileSource("http://origin/file"))
DIGEST = f"sha256:{hashlib.sha256(b'other').hexdigest()}"


async def test_only_a_new_attempt_retries_a_failed_copy(tmp_path: Path) -> None:
    source = FakeReader(Content(b"abc"))
    order = replace(ORDER, source=replace(ORDER.source, digest=DIGEST))
    async with CDNBench(tmp_path, source) as bench:
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
    async with CDNBench(tmp_path, source) as bench:
        await bench.cdn.copies.close()
        bench.cdn.trigger(ORDER)
        with pytest.raises(VolumeFailedError, match="next start"):
            await bench.cdn.copies.delete(TASK)
        await asyncio.sleep(0.02)
    assert [] == source.requests


async def test_a_body_that_ends_too_early_is_a_cut(tmp_path: Path) -> None:
    content = Content(random.Random(0).randbytes(300_000), '"v1"')
    source = FakeReader(content, [Step(cut_after=200_000, framed=False)])
    async with CDNBench(tmp_path, source) as bench:
        bench.cdn.trigger(ORDER)
        await bench.whole(content.data)
        assert (2, 1) == (len(source.requests), len(bench.delays))


async def test_a_task_deleted_twice_in_one_moment_is_gone(tmp_path: Path) -> None:
    async with CDNBench(tmp_path, FakeReader(Content(b"abc"))) as bench:
        bench.cdn.trigger(ORDER)
        first = asyncio.create_task(bench.cdn.copies.delete(TASK))
        await asyncio.sleep(0)
        bench.cdn.trigger(ORDER)
        async with asyncio.timeout(5):  # the second deletion must not wait for the job that it ends
            await bench.cdn.copies.delete(TASK)
            await first
        assert Copy(TASK) == bench.cdn.status(TASK)
        assert [] == [path for path in tmp_path.rglob("*") if path.is_file()]
