"""How the parts of a peer are connected."""

import asyncio
from pathlib import Path

import pytest

from pantala_peer.app import build
from pantala_peer.settings import Settings
from pantala_process.settings import ListenAddress
from tests.support.eventually import eventually
from tests.support.peer_cache import TASK, assignment, fill


@pytest.mark.virtual_time
async def test_the_scrub_waits_while_pieces_are_sent(tmp_path: Path) -> None:
    """Otherwise it takes processor time from the last nodes of a swarm."""
    app = build(Settings("http://supernode.invalid", ListenAddress("127.0.0.1", 0), tmp_path, "node-1"))
    await app.cache.open()
    await fill(app.cache, in_order=False)
    await app.cache.check(assignment())
    app.pieces.log.uploads = 1
    async with asyncio.TaskGroup() as group:
        running = group.create_task(app.scrub.run())
        await asyncio.sleep(60)
        assert app.cache.is_due(TASK)
        app.pieces.log.uploads = 0
        await eventually(lambda: not app.cache.is_due(TASK))
        running.cancel()
    app.cache.close()
