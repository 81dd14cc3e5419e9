"""One tenant takes all that it can get of a supernode. Another one hardly notices."""

from pathlib import Path

import pytest

from tests.support.hostile_tenant import MIB, TwoTenants

pytestmark = pytest.mark.alone

SIZE = 10 * MIB
RATE = 4.0 * MIB
"""Bytes per second of the honest origin. Without a limit, the file takes less time than starting to measure it."""


async def test_h7_h8_a_hostile_tenant_does_not_hold_up_an_honest_one(tmp_path: Path) -> None:
    """16 readers that do not read, 16 slow origins, 16 dead names and 1,100 idle sockets, all at once."""
    async with TwoTenants(tmp_path, rate=RATE) as stage:
        alone = min([await stage.deliver(f"alone-{number}", SIZE) for number in range(2)])
        await stage.readers(16)
        stage.idle(1100)
        await stage.slow_origins(16)
        await stage.dead_names(16)
        beside = await stage.deliver("beside", SIZE)
        if beside > 3 * alone:  # another process may have kept the machine busy
            stage.idle(1100)
            beside = await stage.deliver("again", SIZE)
        assert beside <= 3 * alone, f"{alone:.2f} s alone, {beside:.2f} s beside a hostile tenant"
        assert await stage.health() < 5


async def test_t9_slow_sockets_do_not_hold_up_an_honest_tenant(tmp_path: Path) -> None:
    """2,000 sockets that have sent a part of a request."""
    async with TwoTenants(tmp_path, rate=RATE) as stage:
        alone = await stage.deliver("alone", SIZE)
        stage.idle(2000, b"POST /api/v1/sy")
        beside = await stage.deliver("beside", SIZE)
        if beside > 3 * alone:
            stage.idle(2000, b"POST /api/v1/sy")
            beside = await stage.deliver("again", SIZE)
        assert beside <= 3 * alone, f"{alone:.2f} s alone, {beside:.2f} s beside slow sockets"


async def test_f20_a_node_with_few_files_publishes_while_sockets_fill_its_ports(tmp_path: Path) -> None:
    """1,000 idle sockets at each port of a peer that may open 256 files."""
    async with TwoTenants(tmp_path, peer_files=256) as stage:
        await stage.deliver("first", MIB)
        for _ in range(2):
            await stage.fill_peer(1000)
            assert await stage.peer_health() < 5
            await stage.deliver(f"other-{_}", MIB)
        assert stage.peer_log < 100_000
