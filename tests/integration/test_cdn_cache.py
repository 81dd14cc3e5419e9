"""A supernode's volume as a cache."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pantala_protocol import task_id
from pantala_protocol.statement import CDNStatus, WantedTask
from pantala_supernode.tasks.copy import FileSource
from pantala_supernode.tasks.task import Lease
from testbed.origin import Generated
from tests.support.eventually import eventually
from tests.support.supernode_lab import SupernodeLab

TASK = task_id.compute("cached")
BODY = Generated(300_000)


class Stage(SupernodeLab):
    """A supernode that soon forgets its copies."""

    def lease(self) -> None:
        until = asyncio.get_running_loop().time() + 60
        self.app.supernode.lease(TASK, Lease(FileSource(self.origin.url("/f")), until))

    async def want(self, *uids: str) -> None:
        await self.state(*(WantedTask(uid, "ns/n", TASK, self.origin.url("/f")) for uid in uids))

    @property
    def stored(self) -> bool:
        return any(self.data.glob(f"tasks/*/{TASK}/data"))

    async def whole(self) -> None:
        tasks = self.app.managers.tasks
        await eventually(lambda: (task := tasks.get(TASK)) is not None and task.copy.status is CDNStatus.SUCCESS)

    async def gone(self) -> None:
        await eventually(lambda: not self.stored)
        await asyncio.sleep(0.1)  # and counted

    async def metrics(self) -> dict[str, float]:
        async with self.session.get(f"{self.url}/metrics") as answer:
            lines = (await answer.text()).splitlines()
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    # The disk of this machine may be full.
    async with Stage(tmp_path, grace=0.1, cache_seconds=2.5, fresh_seconds=0.0, disk_high=100.0) as stage:
        stage.origin.serve("/f", BODY)
        yield stage


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
    await stage.want("one")
    await stage.whole()
    await stage.want()
    await eventually(lambda: stage.app.managers.tasks.get(TASK) is None)
    assert stage.stored
    await stage.want("two")
    await stage.whole()
    assert [(200, BODY.size), (304, 0)] == [(access.status, access.sent) for access in stage.origin.log]
    await stage.want()
    await stage.gone()
    assert 1.0 == (await stage.metrics())['pantala_evictions_total{cause="age"}']
