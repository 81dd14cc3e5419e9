"""A copy is read from a real origin over several connections."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from pantala_protocol import task_id
from pantala_protocol.geometry import PieceSizes
from pantala_supernode.cdn.segments import Division
from pantala_supernode.origin.gated import GatedReader, Patience
from pantala_supernode.origin.limits import Gate
from pantala_supernode.tasks.copy import FetchOrder, FileSource
from testbed.origin import Behaviour, Generated, Origin, sha256
from tests.support.cdn import TASK, CDNBench
from tests.support.outbound import http_reader

PIECE = 8 * 1024
BODY = Generated(30 * PIECE)
OTHER = Generated(BODY.size, seed=1)
PACE = Behaviour(chunk=2048, rate=500_000.0)


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with Origin() as made:
        yield made


async def fetched(origin: Origin, directory: Path, digest: str | None = None, *, fetches: int = 16) -> CDNBench:
    """Read the file of the origin over up to four connections, until the copy is whole or abandoned."""
    division = Division(segment=2 * PIECE, window=0.002, gain=0.0, patience=0.0, least=0, fast=1e9)
    async with http_reader() as reader:
        bench = CDNBench(
            directory,
            reader,
            piece_sizes=PieceSizes(lambda _: PIECE, lambda _: PIECE),
            division=division,
            connections=4,
            gate=Gate(fetches),
        )
        async with bench:
            bench.cdn.trigger(FetchOrder(TASK, FileSource(origin.url("/file"), digest=digest)))
            await bench.ended()
    return bench


async def test_a_file_is_read_over_several_connections(origin: Origin, tmp_path: Path) -> None:
    origin.serve("/file", BODY, always=PACE)
    bench = await fetched(origin, tmp_path)
    assert BODY.read(0, BODY.size) == bench.data()
    further = [access.range for access in origin.requests("/file")[1:]]
    assert len(further) == len(set(further)) > 4


async def test_one_place_suffices(origin: Origin, tmp_path: Path) -> None:
    """The first connection gives its place to the next one, also if the rest of the copy is divided."""
    origin.serve("/file", BODY, script=[Behaviour(chunk=2048, close_after=BODY.size // 2)], always=PACE)
    bench = await fetched(origin, tmp_path, fetches=1)
    assert BODY.read(0, BODY.size) == bench.data()
    assert len(origin.requests("/file")) > 2


@pytest.mark.parametrize("validators", ["none", "weak", "all"])
async def test_a_pinned_content_that_replaces_another_one_on_the_way_is_read_again(
    origin: Origin, tmp_path: Path, validators: str
) -> None:
    usual = Behaviour(chunk=2048, rate=500_000.0, validators=validators)  # type: ignore[arg-type]
    changes = Behaviour(chunk=2048, replace=OTHER, validators=validators)  # type: ignore[arg-type]
    origin.serve("/file", BODY, script=[usual, usual, changes], always=usual)
    bench = await fetched(origin, tmp_path, f"sha256:{sha256(OTHER)}")
    assert OTHER.read(0, OTHER.size) == bench.data()
    assert len({access.etag for access in origin.requests("/file")}) == 2


async def test_short_answers_on_several_connections_are_no_failure(origin: Origin, tmp_path: Path) -> None:
    origin.serve("/file", BODY, always=Behaviour(chunk=2048, rate=500_000.0, most=PIECE + 1000))
    bench = await fetched(origin, tmp_path)
    assert BODY.read(0, BODY.size) == bench.data()
    assert [] == bench.delays
    assert len(origin.requests("/file")) > 4


@pytest.mark.parametrize("first", [PACE, Behaviour(chunk=2048, close_after=BODY.size - 1000)])
async def test_a_wrong_digest_is_final_although_parts_were_joined(
    origin: Origin, tmp_path: Path, first: Behaviour
) -> None:
    origin.serve("/file", BODY, script=[first], always=PACE)
    bench = await fetched(origin, tmp_path, f"sha256:{sha256(OTHER)}")
    assert bench.data() == b""
    assert [0] == [n for n, access in enumerate(origin.requests("/file")) if not access.range], "it is read once"


@pytest.mark.parametrize(
    "how", [{"shift": 5}, {"ranges": False, "headers": {"Accept-Ranges": "bytes"}}], ids=["other bytes", "whole file"]
)
async def test_an_origin_whose_ranges_are_wrong_is_read_on_one_connection(
    origin: Origin, tmp_path: Path, how: dict[str, Any]
) -> None:
    """The first body is divided, because the origin claims to serve ranges."""
    origin.serve("/file", BODY, always=Behaviour(chunk=2048, rate=500_000.0, **how))
    bench = await fetched(origin, tmp_path)
    assert BODY.read(0, BODY.size) == bench.data()
    assert origin.body_bytes("/file") < 5 * BODY.size
    assert not origin.requests("/file")[-1].range


async def test_a_slow_file_whose_place_is_taken_is_read_further(origin: Origin, tmp_path: Path) -> None:
    """The first answer is read by another task than the one that opened it. Its end cancelled the whole job."""
    others = [task_id.compute(name) for name in ("/1", "/2")]
    for path in ("/file", "/1", "/2"):
        origin.serve(path, BODY, always=Behaviour(chunk=2048, rate=200_000.0))
    division = Division(segment=2 * PIECE, window=0.002, gain=0.0, patience=0.0, least=0, fast=1e9)
    sizes, gate = PieceSizes(lambda _: PIECE, lambda _: PIECE), Gate(1)
    async with http_reader() as reader:
        bench = CDNBench(tmp_path, reader, piece_sizes=sizes, division=division, connections=4, gate=gate)
        bench.cdn.worker._reader = GatedReader(reader, gate, Patience(slow=0.05, minimum=1 << 30, most_slow=1))
        async with bench:
            for task, path in zip((TASK, *others), ("/file", "/1", "/2"), strict=True):
                bench.cdn.trigger(FetchOrder(task, FileSource(origin.url(path))))
                await asyncio.sleep(0.02)
            await bench.whole(BODY.read(0, BODY.size))
            assert bench.delays
