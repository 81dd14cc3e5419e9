"""The CDN over real sockets, onto a real disk: what each origin, good or bad, makes of a task."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from pantala_pieces.store import PieceStore
from pantala_protocol import task_id
from pantala_protocol.statement import CDNStatus
from pantala_supernode.cdn.copy import Copy, FetchOrder
from pantala_supernode.cdn.http_source import HTTPSource, Patience
from pantala_supernode.cdn.manager import CDNManager
from testbed.origin import Behaviour, Generated, Origin, sha256

MIB = 1024 * 1024
PIECE = 128 * 1024
BODY = Generated(3 * MIB + 17)
OTHER = Generated(3 * MIB + 17, seed=1, modified=1_600_000_000)
TASK = task_id.compute("test")


class Bench:
    """A CDN on ``directory``, and the waiting for what it does."""

    def __init__(self, directory: Path, source: HTTPSource) -> None:
        self.store = PieceStore(directory, durable=True)
        self.changed = asyncio.Event()
        self.delays: list[float] = []
        self.cdn = CDNManager(
            self.store,
            source,
            on_change=lambda _: self.changed.set(),
            rng=random.Random(1),
            sleep=self._sleep,
        )

    async def _sleep(self, delay: float) -> None:
        self.delays.append(delay)
        await asyncio.sleep(min(delay, 0.01) if delay < 100 else 3600)

    async def until(self, wanted: Callable[[Copy], bool]) -> Copy:
        """Wait for a state of the copy."""
        async with asyncio.timeout(20):
            while not wanted(copy := self.cdn.status(TASK)):
                await self.changed.wait()
                self.changed.clear()
        return copy

    async def ended(self) -> Copy:
        """Wait until the copy is whole or nothing more is tried soon."""
        return await self.until(
            lambda copy: copy.status is CDNStatus.SUCCESS or (copy.failure is not None and copy.failure.final)
        )

    def data(self) -> bytes:
        """The copy's bytes on the disk."""
        file = self.store.get(TASK)
        return file.path.read_bytes() if file else b""


@contextlib.asynccontextmanager
async def bench(directory: Path, *, patience: Patience | None = None) -> AsyncIterator[Bench]:
    async with HTTPSource(patience=patience) as source:
        made = Bench(directory, source)
        await made.cdn.recover()
        try:
            yield made
        finally:
            await made.cdn.close()


def order(origin: Origin, path: str = "/file", **changes: object) -> FetchOrder:
    return FetchOrder(TASK, origin.url(path), **{"retry_limit": 6, **changes})  # type: ignore[arg-type]


async def test_a_file_is_read_once_and_cached_whole(tmp_path: Path) -> None:
    async with Origin() as origin, bench(tmp_path) as b:
        origin.serve("/file", BODY)
        b.cdn.trigger(order(origin))
        b.cdn.trigger(order(origin))
        copy = await b.ended()
        assert copy.status is CDNStatus.SUCCESS
        assert f"sha256:{sha256(BODY)}" == copy.digest
        assert (BODY.size, BODY.size) == (copy.length, copy.origin_bytes)
        assert copy.total is not None
        assert (1 << copy.total) - 1 == copy.cached
        assert BODY.read(0, BODY.size) == b.data()
        assert [("GET", 200, BODY.size)] == [(a.method, a.status, a.sent) for a in origin.log]


PASSING = {
    "reset in mid-body": [Behaviour(reset_after=MIB + 5)],
    "closed in mid-body": [Behaviour(close_after=MIB + 5)],
    "cut several times": [Behaviour(reset_after=MIB), Behaviour(close_after=MIB // 2), Behaviour(reset_after=0)],
    "server errors first": [Behaviour(status=500), Behaviour(status=503, headers={"Retry-After": "1"})],
    "too many requests first": [Behaviour(status=429, headers={"Retry-After": "7"})],
    "resume without range support": [Behaviour(close_after=MIB), Behaviour(ranges=False)],
    "no validators": [Behaviour(close_after=MIB, validators="none"), Behaviour(validators="none")],
    "weak etag alone": [Behaviour(close_after=MIB, validators="weak"), Behaviour(validators="weak")],
    "last-modified alone": [Behaviour(close_after=MIB, validators="modified"), Behaviour(validators="modified")],
    "wrong content-range once": [
        Behaviour(close_after=MIB),
        Behaviour(headers={"Content-Range": f"bytes 0-{BODY.size - 1}/{BODY.size}"}),
    ],
    "gzip once": [Behaviour(gzip=True)],
    "one body longer than announced": [Behaviour(announced=-100_000)],
    "one body shorter than announced": [Behaviour(announced=10)],
    "chunked": [Behaviour(framing="chunked")],
    "chunked and cut": [Behaviour(framing="chunked", close_after=2 * MIB)],
    "stalls": [Behaviour(stall_after=MIB)],
}


@pytest.mark.parametrize("digest", ["", "sha256", "sha512"], ids=["unknown", "sha256", "sha512"])
@pytest.mark.parametrize("script", PASSING.values(), ids=PASSING.keys())
async def test_passing_faults_end_in_the_right_file(tmp_path: Path, script: list[Behaviour], digest: str) -> None:
    content = BODY.read(0, BODY.size)
    expected = f"{digest}:{hashlib.new(digest, content).hexdigest()}" if digest else ""
    async with Origin() as origin, bench(tmp_path, patience=Patience(silence=0.3)) as b:
        origin.serve("/file", BODY, script=script)
        b.cdn.trigger(order(origin, digest=expected))
        copy = await b.ended()
        assert (copy.status, copy.failure) == (CDNStatus.SUCCESS, None)
        assert content == b.data()
