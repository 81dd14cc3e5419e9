"""A real supernode is killed while it verifies, and when its copy is finished. See also faults/rows/kills.py."""

import asyncio
import random
from pathlib import Path

from pantala_pieces.meta import Meta
from pantala_pieces.store import PieceStore
from pantala_protocol import task_id
from testbed.origin import Generated, Origin
from tests.support.dragonfly_client import Dfget
from tests.support.kill_lab import BODY, CONTENT, MIB, PIECE, Node, fetched, flip, wanted
from tests.support.pieces import piece_of


async def test_after_a_kill_during_the_verification_it_verifies_again(tmp_path: Path) -> None:
    chance = random.Random(3)
    async with Origin() as origin, Node(tmp_path) as one:
        origin.serve("/f", BODY)
        await one.start()
        await one.state(wanted(origin))
        before = await one.cached()
        await asyncio.sleep(0.2)  # the lease is recorded
        one.kill()
        ballast(one)
        unready = 0
        for _ in range(4):
            await one.start()
            await asyncio.sleep(chance.uniform(0.0, 0.1))
            unready += not await one.is_ready()
            one.kill()
        again = 0
        while not again:
            again = flip(one, chance)
        await one.start()
        await one.state(wanted(origin))
        assert CONTENT == await one.read("node1")
        after = await one.cached()
        assert unready, "it was never killed while it verified"
        assert before.digest == after.digest
        assert [BODY.size, PIECE] == [access.sent for access in origin.log]
        assert again == fetched(origin.log[1:])


def ballast(node: Node) -> None:
    """The pieces of another task, so many that their verification takes a while."""
    store = PieceStore(node.data / "tasks", durable=False)
    store.open()
    block = random.Random(0).randbytes(4 * MIB)
    file = store.create(Meta(task_id.compute("0"), "g", 4 * MIB))
    for number in range(64):
        file.put([piece_of(number, block)])
    store.close()


async def test_a_finished_copy_under_a_lease_is_a_hit_after_a_kill(tmp_path: Path) -> None:
    flags = ("--dragonfly", "--cache-seconds", "3600", "--fresh-seconds", "0", "--disk-high", "100")
    body, other = Generated(3 * MIB), Generated(3 * MIB, seed=9)
    async with Origin() as origin, Node(tmp_path, *flags) as one:
        origin.serve("/f", body)
        for _ in range(3):
            await one.start()
            async with Dfget(f"127.0.0.1:{one.port}", origin.url("/f")) as client:
                assert body.read(0, body.size) == await client.run()
            one.kill()
        assert [(200, body.size), (304, 0), (304, 0)] == [(access.status, access.sent) for access in origin.log]
        origin.serve("/f", other)
        await one.start()
        async with Dfget(f"127.0.0.1:{one.port}", origin.url("/f")) as client:
            assert other.read(0, other.size) == await client.run()
        assert [(200, other.size)] == [(access.status, access.sent) for access in origin.log[3:]]
