"""Real peers in the test's process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from pantala_peer.app import PeerApp, build
from pantala_peer.settings import Settings
from pantala_process.settings import ListenAddress
from tests.support.eventually import eventually


@asynccontextmanager
async def peer(url: str, root: Path, name: str = "node-1", **changes: Any) -> AsyncIterator[PeerApp]:
    """A peer that runs inside the block, and ends as after SIGTERM."""
    made = build(Settings(url, ListenAddress("127.0.0.1", 0), root, name, **changes))
    stop = asyncio.Event()
    running = asyncio.create_task(made.run(stop))
    try:
        yield made
    finally:
        stop.set()
        await running


@asynccontextmanager
async def mirror(url: str, root: Path, name: str = "node-1", **changes: Any) -> AsyncIterator[PeerApp]:
    """A peer with a mirror. Yields after the first answer of the supernode."""
    settings: dict[str, Any] = {"mirror_listen": ListenAddress("127.0.0.1", 0), "grace": 1.0, **changes}
    async with peer(url, root, name, **settings) as made:
        await eventually(lambda: made.supernodes.answered_at > 0 and made.mirror.port > 0)
        yield made
