"""The fence against former leaders holds after a restart of the supernode."""

from pathlib import Path

import pytest

from pantala_operator.adapters.supernode import HTTPSupernodeAPI
from pantala_operator.errors import SupernodeRefusedError
from pantala_protocol.statement import Statement
from pantala_supernode.app import serving
from pantala_supernode.errors import ConflictError
from pantala_supernode.volume.epochs import EpochFence
from tests.support.supernode_lab import loopback


async def test_m4_a_restarted_supernode_knows_the_epoch(tmp_path: Path) -> None:
    settings = loopback(tmp_path / "data")
    api = HTTPSupernodeAPI(f"http://127.0.0.1:{settings.listen.port}")
    async with serving(settings):
        await api.state(Statement(1, epoch=7))
    await api.close()
    settings = loopback(tmp_path / "data")
    api = HTTPSupernodeAPI(f"http://127.0.0.1:{settings.listen.port}")
    async with serving(settings):
        assert 7 == (await api.changes("", 0, 0)).epoch
        with pytest.raises(SupernodeRefusedError, match="another operator leads since epoch 7"):
            await api.state(Statement(2, epoch=6))
        await api.state(Statement(3, epoch=7))
    await api.close()


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b'{"epoch": "x"}', b"[]"])
def test_m4_an_unreadable_epoch_ends_no_supernode(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "epoch.json"
    path.write_bytes(content)
    fence = EpochFence(path)
    fence.check(1)
    fence.accept(3)
    with pytest.raises(ConflictError):
        EpochFence(path).check(2)
    path.write_bytes(content)
    assert 3 == EpochFence(path).epoch, "its copy is read"


def test_m4_a_volume_without_room_stops_no_statement(tmp_path: Path) -> None:
    """The epoch is then known until a restart."""
    fence = EpochFence(tmp_path / "missing" / "epoch.json")
    fence.accept(3)
    with pytest.raises(ConflictError):
        fence.check(2)
