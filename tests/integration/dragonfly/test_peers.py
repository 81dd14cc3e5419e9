"""Clients of Dragonfly and our peers serve each other."""

import asyncio
from pathlib import Path

import pytest

from pantala_supernode.swarm.download import DfgetTaskStatus
from testbed.origin import Behaviour, Generated
from tests.support.dragonfly_stage import DragonflyStage, P
from tests.support.eventually import eventually

# One swarm of peers and clients

Q = 1024 * 1024
"""The piece size of a file whose length is not known."""
SIZE = 30 * P + 11


async def published(root: Path) -> bytes:
    """The file on the node, once it exists."""
    path = root / "files" / "f"
    await eventually(path.exists, within=30)
    return path.read_bytes()


@pytest.mark.parametrize("wrong", [False, True])
async def test_a_peer_downloads_from_a_client(stage: DragonflyStage, tmp_path: Path, wrong: bool) -> None:
    """Only the client sends the peer its pieces. The peer verifies them, so wrong bytes harm no peer."""
    content = stage.serve(SIZE)
    async with stage.dfget() as client:
        assert content == await client.run()
        if wrong:
            client.pieces = {number: bytes(len(piece)) for number, piece in client.pieces.items()}
        async with stage.node_with_file(tmp_path / "peer"):
            assert content == await published(tmp_path / "peer")
    assert wrong or (SIZE, 31) == (stage.from_supernode(), client.served)
    assert SIZE == stage.origin.body_bytes("/f")


async def test_a_client_downloads_from_a_peer(stage: DragonflyStage, tmp_path: Path) -> None:
    content = stage.serve(SIZE)
    async with stage.node_with_file(tmp_path / "peer"):
        assert content == await published(tmp_path / "peer")
        for old in (False, True):
            async with stage.dfget(
                old=old, pattern="cdn", reachable=lambda entry: entry["cid"].startswith("peer:node-1~")
            ) as client:
                assert content == await client.run()
        value = stage.app.metrics.registry.get_sample_value
        assert 2 == sum(value("pantala_dfget_tasks", {"status": each}) or 0 for each in DfgetTaskStatus)
    assert SIZE == stage.origin.body_bytes("/f")


async def test_peers_and_clients_read_the_origin_once(stage: DragonflyStage, tmp_path: Path) -> None:
    content = stage.serve(SIZE, rate=SIZE / 2)
    async with stage.node_with_file(tmp_path / "peer"), stage.dfget() as one, stage.dfget(old=True) as two:
        assert [content] * 3 == await asyncio.gather(one.run(), two.run(), published(tmp_path / "peer"))
    assert SIZE == stage.origin.body_bytes("/f")


@pytest.mark.parametrize("later", ["chunked", "length"])
@pytest.mark.parametrize("end", ["close_after", "reset_after"])
@pytest.mark.parametrize("cut", [0, 1, Q // 2, Q - 1, Q, Q + 1, 3 * Q + 1, 5 * Q + 6, 5 * Q + 7])
@pytest.mark.parametrize("old", [False, True])
async def test_a_chunked_body_that_is_cut_once_is_resumed(
    stage: DragonflyStage, cut: int, end: str, later: str, *, old: bool
) -> None:
    size = 5 * Q + 7
    body = Generated(size, seed=1)
    broken = Behaviour(framing="chunked", rate=50_000_000, validators="etag", **{end: cut})  # type: ignore[arg-type]
    stage.origin.serve("/f", body, script=[broken], always=Behaviour(framing=later, validators="etag"))  # type: ignore[arg-type]
    async with stage.dfget(old=old) as client:
        assert body.read(0, size) == await client.run()
    _, again = stage.origin.requests("/f")
    start = int(again.range.removeprefix("bytes=").removesuffix("-") or 0)
    assert start <= cut
    assert end == "reset_after" or start == max(0, cut - 1)  # a reset may discard bytes that the kernel has received
    assert size - start == again.sent
