"""A CDN for one task, which records the copy's states and does not wait between attempts."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path
from typing import Any, Self

from pantala_pieces.store import PieceStore
from pantala_protocol import task_id
from pantala_protocol.geometry import RULES
from pantala_protocol.statement import CDNStatus, Failure
from pantala_supernode.cdn.manager import CDNManager
from pantala_supernode.cdn.table import CopyTable
from pantala_supernode.cdn.tools import FetchTools
from pantala_supernode.origin.source import SourceReader
from pantala_supernode.tasks.copy import Copy, FetchOrder
from pantala_supernode.tasks.shares import Shares
from pantala_supernode.tasks.tenancy import ReadBudget

TASK = task_id.compute("test")


def tools(**settings: Any) -> FetchTools:
    """Tools without quotas and without evictions."""

    async def no_room(_: int) -> bool:
        return False

    usual: dict[str, Any] = {
        "piece_sizes": RULES["swarm"],
        "rng": random.Random(1),
        "make_room": no_room,
        "budget": lambda task_id: ReadBudget(None, task_id),
        "fresh_for": 60.0,
        "connections": 1,
    }
    return FetchTools(**(usual | settings))


def origin_only(_: FetchOrder, origin: SourceReader) -> AbstractAsyncContextManager[SourceReader]:
    return nullcontext(origin)


class CDNBench:
    """A CDN with its volume in ``directory``, which reads origins through ``reader``. Entering it reads the volume."""

    def __init__(
        self, directory: Path, reader: SourceReader, *, durable: bool = False, headroom: float = 0.0, **settings: Any
    ) -> None:
        self.now = 1_000_000.0
        """Seconds since the epoch."""
        self.delays: list[float] = []
        """The seconds that the CDN wanted to wait between its attempts."""
        self.seen: list[Copy] = []
        self.store = PieceStore(directory, durable=durable, headroom=headroom)
        self.changed = asyncio.Event()
        self.cdn = CDNManager(
            CopyTable(self.store, self._on_change),
            reader,
            tools(**{"sleep": self._sleep, "wall": lambda: self.now, **settings}),
            choose=origin_only,
            shares=Shares(),
        )

    async def __aenter__(self) -> Self:
        await self.cdn.recover()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.cdn.copies.close()

    def _on_change(self, _: str) -> None:
        self.seen.append(self.cdn.status(TASK))
        self.changed.set()

    async def _sleep(self, delay: float) -> None:
        self.delays.append(delay)
        await asyncio.sleep(min(delay, 0.01) if delay < 100 else 3600)

    async def until(self, wanted: Callable[[Copy], object]) -> Copy:
        async with asyncio.timeout(20):
            while not wanted(copy := self.cdn.status(TASK)):
                await self.changed.wait()
                self.changed.clear()
        return copy

    async def whole(self, content: bytes | None = None) -> Copy:
        """Wait until the copy is whole, and check its ``content``. A final failure ends the wait."""
        copy = await self.ended()
        assert (CDNStatus.SUCCESS, None) == (copy.status, copy.failure)
        assert content is None or content == self.data()
        return copy

    async def failure(self) -> Failure:
        failure = (await self.ended()).failure
        assert failure is not None
        return failure

    async def ended(self) -> Copy:
        """Wait until the copy is whole, or until the CDN makes no further attempt soon."""
        return await self.until(
            lambda copy: copy.status is CDNStatus.SUCCESS or (copy.failure is not None and copy.failure.final)
        )

    def data(self) -> bytes:
        file = self.store.get(TASK)
        return file.path.read_bytes() if file else b""
