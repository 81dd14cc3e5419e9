"""A supernode's volume as a cache."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from pantala_protocol import task_id
from pantala_protocol.statement import CDNStatus, Statement, WantedTask
from pantala_supernode.app import App, serving
from pantala_supernode.tasks.copy import FileSource
from pantala_supernode.tasks.task import Lease
from testbed.origin import Generated, Origin
from tests.support.eventually import eventually
from tests.support.supernode_lab import loopback

TASK = task_id.compute("cached")
BODY = Generated(300_000)


class Stage:
    """One supernode with a short memory, one origin, and an operator."""

    def __init__(self, app: App, origin: Origin) -> None:
        self.app = app
        self.origin = origin
        self.revision = 0

    def lease(self) -> None:
        until = asyncio.get_running_loop().time() + 60
        self.app.supernode.lease(TASK, Lease(FileSource(self.origin.url("/f")), until))

    def state(self, *uids: str) -> None:
        self.revision += 1
        wanted = [WantedTask(uid=uid, name="ns/n", task_id=TASK, url=self.origin.url("/f")) for uid in uids]
        self.app.supernode.state(Statement(self.revision, tuple(wanted)))

    @property
    def stored(self) -> bool:
        return any(self.app.settings.data.glob(f"tasks/*/{TASK}/data"))

    async def whole(self) -> None:
        tasks = self.app.managers.tasks
        await eventually(lambda: (task := tasks.get(TASK)) is not None and task.copy.status is CDNStatus.SUCCESS)

    async def gone(self) -> None:
        await eventually(lambda: not self.stored)
        await asyncio.sleep(0.1)  # and counted

    async def metrics(self) -> dict[str, float]:
        url = f"http://127.0.0.1:{self.app.settings.listen.port}/metrics"
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            lines = (await answer.text()).splitlines()
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    settings = loopback(
        tmp_path / "data",
        grace=0.1,
        cache_seconds=2.5,
        fresh_seconds=0.0,
        disk_high=100.0,  # the disk of this machine may be full
    )
    async with Origin() as origin, serving(settings) as app:
        origin.serve("/f", BODY)
        yield Stage(app, origin)


async def test_a_new_lease_finds_the_cached_copy_until_it_ages(stage: Stage) -> None:
    stage.lease()
    await stage.whole()
    stage.app.supernode.end_lease(TASK, keep=True)
    stage.lease()
    await stage.whole()
    assert [(200, BODY.size), (304, 0)] == [(access.status, access.sent) for access in stage.origin.log]
    stage.app.supernode.end_lease(TASK, keep=True)
    assert stage.stored
    await stage.gone()
    told = await stage.metrics()
    uses = {use: told[f'pantala_cache_uses_total{{found="{use}"}}'] for use in ("hit", "revalidated", "stale", "miss")}
    assert {"hit": 0.0, "revalidated": 1.0, "stale": 0.0, "miss": 1.0} == uses
    assert 1.0 == told['pantala_evictions_total{cause="age"}']
    assert BODY.size == told["pantala_origin_bytes_total"]


async def test_the_copy_of_a_dropped_task_stays_as_a_cache(stage: Stage) -> None:
    stage.state("one")
    await stage.whole()
    stage.state()
    await eventually(lambda: stage.app.managers.tasks.get(TASK) is None)
    assert stage.stored
    stage.state("two")
    await stage.whole()
    assert [(200, BODY.size), (304, 0)] == [(access.status, access.sent) for access in stage.origin.log]
    stage.state()
    await stage.gone()
    assert 1.0 == (await stage.metrics())['pantala_evictions_total{cause="age"}']
