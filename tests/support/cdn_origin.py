"""A CDN that reads from a real origin."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from pantala_supernode.outbound.request import Timeouts
from pantala_supernode.tasks.copy import FetchOrder, FileSource
from testbed.origin import Generated, Origin
from tests.support.cdn import TASK, CDNBench
from tests.support.outbound import http_reader

MIB = 1024 * 1024
PIECE = 128 * 1024
BODY = Generated(3 * MIB + 17)
OTHER = Generated(3 * MIB + 17, seed=1, modified=1_600_000_000)


@contextlib.asynccontextmanager
async def bench(
    directory: Path, *, timeouts: Timeouts | None = None, headroom: float = 0.0, **settings: Any
) -> AsyncIterator[CDNBench]:
    async with (
        http_reader(timeouts=timeouts) as reader,
        CDNBench(directory, reader, durable=True, headroom=headroom, **settings) as made,
    ):
        yield made


def order(origin: Origin, path: str = "/file", *, retry_limit: int | None = 6, **source: Any) -> FetchOrder:
    return FetchOrder(TASK, FileSource(origin.url(path), **source), retry_limit=retry_limit)
