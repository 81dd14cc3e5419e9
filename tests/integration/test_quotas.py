"""Namespaces and their quotas on a real supernode with a real origin."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from pantala_protocol import task_id
from pantala_protocol.reasons import Reason
from pantala_protocol.rules.quotas import Quota, Quotas
from pantala_protocol.statement import CDNStatus, Changes, TaskReport, WantedTask
from tests.support.eventually import eventually
from tests.support.supernode_lab import SupernodeLab

MIB = 1024 * 1024


@asynccontextmanager
async def lab(folder: Path, **quotas: Quota) -> AsyncIterator[SupernodeLab]:
    async with SupernodeLab(folder, quotas=Quotas(Quota(), quotas)) as it:
        yield it


def wanted(it: SupernodeLab, namespace: str, path: str = "/f") -> WantedTask:
    url = it.origin.url(path)
    return WantedTask(f"{namespace}{path}", f"{namespace}/t", task_id.compute(url), url, attempt="1/")


async def report(it: SupernodeLab, uid: str) -> TaskReport:
    """The report about a Task resource, once it is whole or refused."""

    def ended(changes: Changes) -> TaskReport | None:
        found = next((each for each in changes.tasks if each.uid == uid), None)
        done = found is not None and (found.cdn_status is CDNStatus.SUCCESS or found.failure is not None)
        return found if done else None

    return found if (found := ended(await it.until(ended))) is not None else await report(it, uid)


def on_disk(it: SupernodeLab) -> int:
    """The bytes of all copies. A filesystem may allocate more blocks ahead, and files may have holes."""
    try:
        files = [file.stat() for file in (it.data / "tasks").rglob("data")]
    except FileNotFoundError:  # it was deleted meanwhile
        return 0
    return sum(min(file.st_size, file.st_blocks * 512) for file in files)


async def test_m1_a_file_above_the_quota_is_refused_alone(tmp_path: Path) -> None:
    """Another namespace that wants the same file gets it, and the refused one is not charged."""
    async with lab(tmp_path, a=Quota(bytes=3 * MIB)) as it:
        it.serve(4 * MIB)
        await it.state(wanted(it, "a"))
        refused = await report(it, "a/f")
        assert refused.failure is not None
        assert (CDNStatus.FAILED, Reason.QUOTA_EXCEEDED) == (refused.cdn_status, refused.failure.reason)
        assert "The namespace a may keep 3145728 bytes" in refused.failure.message
        await eventually(lambda: on_disk(it) == 0)
        await it.state(wanted(it, "a"), wanted(it, "b"))
        assert CDNStatus.SUCCESS is (await report(it, "b/f")).cdn_status
        assert CDNStatus.FAILED is (await report(it, "a/f")).cdn_status


async def test_m1_a_namespace_gets_a_file_once_there_is_room(tmp_path: Path) -> None:
    async with lab(tmp_path, a=Quota(bytes=5 * MIB)) as it:
        it.serve(3 * MIB, "/one")
        it.serve(4 * MIB, "/two")
        await it.state(wanted(it, "a", "/one"))
        assert CDNStatus.SUCCESS is (await report(it, "a/one")).cdn_status
        await it.state(wanted(it, "a", "/one"), wanted(it, "a", "/two"))
        assert CDNStatus.FAILED is (await report(it, "a/two")).cdn_status
        await it.state(wanted(it, "a", "/two"))

        async def whole() -> bool:
            found = {each.uid: each.cdn_status for each in (await it.changes()).tasks}
            return found.get("a/two") is CDNStatus.SUCCESS

        await eventually(whole, within=30)


async def test_m1_an_endless_body_stops_before_the_quota_and_is_freed(tmp_path: Path) -> None:
    async with lab(tmp_path, a=Quota(bytes=8 * MIB)) as it:
        it.serve(64 * MIB, framing="chunked")
        await it.state(wanted(it, "a"))
        most = 0
        while (found := next(iter((await it.changes()).tasks), None)) is None or found.failure is None:
            most = max(most, on_disk(it))
            await asyncio.sleep(0.01)
        assert Reason.QUOTA_EXCEEDED == found.failure.reason
        assert most <= 8 * MIB
        await eventually(lambda: on_disk(it) == 0)
        await asyncio.sleep(2.5)
        assert 1 == len(it.origin.log), "an endless body is not read again"


@pytest.mark.parametrize("quota", [MIB // 2, 3 * MIB + MIB // 2], ids=["in the first block", "later"])
async def test_m1_an_endless_body_of_a_slow_origin_stops_inside_a_block(tmp_path: Path, quota: int) -> None:
    async with lab(tmp_path, a=Quota(bytes=quota)) as it:
        it.serve(64 * MIB, framing="chunked", rate=4.0 * MIB)
        await it.state(wanted(it, "a"))
        refused = await report(it, "a/f")
        assert refused.failure is not None
        assert Reason.QUOTA_EXCEEDED == refused.failure.reason
        assert 1 == len(it.origin.log)
        assert it.origin.body_bytes("/f") < quota + MIB // 4


async def test_m1_the_bytes_of_a_day_are_counted_across_restarts(tmp_path: Path) -> None:
    async with lab(tmp_path, a=Quota(daily=10 * MIB)) as it:
        for path in ("/one", "/two", "/three"):
            it.serve(4 * MIB, path)
        await it.state(wanted(it, "a", "/one"), wanted(it, "a", "/two"))
        assert CDNStatus.SUCCESS is (await report(it, "a/one")).cdn_status
        assert CDNStatus.SUCCESS is (await report(it, "a/two")).cdn_status
        reads = it.data / "reads.json"
        await eventually(lambda: reads.exists() and json.loads(reads.read_text())["reads"] == {"a": 8 * MIB}, within=10)
        await it.stop()
        await it.start()
        await it.state(*(wanted(it, "a", path) for path in ("/one", "/two", "/three")))
        refused = await report(it, "a/three")
        assert refused.failure is not None
        assert "may read 10485760 bytes a day" in refused.failure.message
        await asyncio.sleep(2.5)
        assert 3 == len(it.origin.log), "a refused file is not asked for again on the same day"


async def test_m1_a_tenant_without_quota_left_holds_back_no_other(tmp_path: Path) -> None:
    """The attack: want the file of another tenant, with no room for it."""
    async with lab(tmp_path, poor=Quota(bytes=1, daily=1)) as it:
        content = it.serve(6 * MIB, framing="chunked")
        await it.state(wanted(it, "poor"), wanted(it, "rich"))
        found = await report(it, "rich/f")
        assert (CDNStatus.SUCCESS, len(content)) == (found.cdn_status, found.length)
        assert CDNStatus.FAILED is (await report(it, "poor/f")).cdn_status
        assert 1 == len(it.origin.log)
