"""What the lifecycle's property found once."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

from pantala_pieces.store import PieceStore
from pantala_protocol import task_id
from pantala_supernode.cdn.copy import Copy, FetchOrder
from pantala_supernode.cdn.fake_source import Content, FakeSource
from pantala_supernode.cdn.manager import CDNManager

TASK = task_id.compute("test")


async def test_a_task_deleted_wanted_and_deleted_again_in_one_moment_is_gone(tmp_path: Path) -> None:
    cdn = CDNManager(
        PieceStore(tmp_path, durable=False),
        FakeSource(Content(b"abc")),
        on_change=lambda _: None,
        rng=random.Random(1),
    )
    await cdn.recover()
    order = FetchOrder(TASK, "http://origin/file")
    cdn.trigger(order)
    first = asyncio.create_task(cdn.delete(TASK))
    await asyncio.sleep(0)
    cdn.trigger(order)
    async with asyncio.timeout(5):  # the second deletion and the work that it ends once waited for each other
        await cdn.delete(TASK)
        await first
    assert Copy(TASK) == cdn.status(TASK)
    assert [] == [path for path in tmp_path.rglob("*") if path.is_file()]
    await cdn.close()
