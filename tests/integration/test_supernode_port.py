"""What the operator may expect of a supernode: the real one keeps it, and so does the fake of the unit tests."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from pantala_operator.adapters.supernode import HTTPSupernodeAPI
from pantala_operator.errors import SupernodeRefusedError, SupernodeUnavailableError
from pantala_operator.ports import SupernodeAPI
from pantala_protocol import task_id
from pantala_protocol.console.progress import Progress, TaskProgressView
from pantala_protocol.nodes.numbers import numbered
from pantala_protocol.registry import Resolve
from pantala_protocol.statement import CDNStatus, Changes, Statement, TaskReport, WantedTask
from pantala_supernode.app import serving
from testbed.origin import Behaviour, Generated, Origin
from tests.support.eventually import eventually
from tests.support.supernode import MemorySupernode
from tests.support.supernode_lab import loopback
from tests.support.web_server import web_server


@dataclass
class Subject:
    """A supernode of either kind, and the origin of its files."""

    api: SupernodeAPI
    origin: Origin
    stack: AsyncExitStack

    def wanted(self, name: str, always: Behaviour | None = None) -> WantedTask:
        self.origin.serve(f"/{name}", Generated(1000), always=always)
        url = self.origin.url(f"/{name}")
        return WantedTask(f"uid-{name}", f"ns/{name}", task_id.compute(url), url, {}, attempt="1/")

    async def fetch(self, *tasks: WantedTask) -> None:
        """The fake fetches by order; the real supernode fetches by itself."""
        if isinstance(self.api, MemorySupernode):
            for each in tasks:
                await self.api.report(TaskReport(each.uid, each.task_id, each.attempt, CDNStatus.SUCCESS, 1000))

    async def stop(self) -> None:
        if isinstance(self.api, MemorySupernode):
            self.api.outage = SupernodeUnavailableError("stopped")
        await self.stack.aclose()

    async def until(self, uid: str, changes: Changes) -> Changes:
        """The changes after ``changes``, once the Task has its file."""

        async def done() -> Changes | None:
            later = await self.api.changes(changes.boot, changes.version, 0.1)
            return later if {(uid, CDNStatus.SUCCESS)} <= {(e.uid, e.cdn_status) for e in later.tasks} else None

        return await eventually(done)


@pytest.fixture(params=["memory", "real"])
async def subject(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Subject]:
    async with Origin() as origin, AsyncExitStack() as stack:
        if request.param == "memory":
            yield Subject(MemorySupernode(), origin, stack)
            return
        settings = loopback(tmp_path / "data", grace=0.2)
        await stack.enter_async_context(serving(settings))
        api = HTTPSupernodeAPI(f"http://127.0.0.1:{settings.listen.port}")
        yield Subject(api, origin, stack)
        await api.close()


async def test_a_statement_is_in_force_when_it_is_accepted(subject: Subject) -> None:
    receipt = await subject.api.state(Statement(7))
    changes = await subject.api.changes("", 0, 0)
    assert (receipt.boot, receipt.revision) == (changes.boot, changes.revision)
    assert (7, True) == (changes.revision, changes.full)


async def test_changes_since_a_version_are_those_that_came_later(subject: Subject) -> None:
    one, two = subject.wanted("one"), subject.wanted("two")
    receipt = await subject.api.state(Statement(1, (one,)))
    await subject.fetch(one)
    first = await subject.until(one.uid, Changes(receipt.boot, 0))
    await subject.api.state(Statement(2, (one, two)))
    await subject.fetch(two)
    second = await subject.until(two.uid, first)
    assert not first.full
    assert {two.uid} == {each.uid for each in second.tasks}
    assert {one.uid, two.uid} == {each.uid for each in (await subject.api.changes("other", 99, 0)).tasks}


async def test_a_task_that_is_left_out_is_reported_gone(subject: Subject) -> None:
    one = subject.wanted("one")
    receipt = await subject.api.state(Statement(1, (one,)))
    await subject.fetch(one)
    first = await subject.until(one.uid, Changes(receipt.boot, 0))
    await subject.api.state(Statement(2))

    async def gone() -> bool:
        return one.uid in (await subject.api.changes(first.boot, first.version, 0.1)).gone

    await eventually(gone)
    assert () == (await subject.api.changes("", 0, 0)).tasks


async def test_an_answer_waits_for_a_change(subject: Subject) -> None:
    await subject.api.state(Statement(1))
    first = await subject.api.changes("", 0, 0)
    same = await subject.api.changes(first.boot, first.version, 0.05)
    assert (first.version, (), ()) == (same.version, same.tasks, same.gone)
    waiting = asyncio.create_task(subject.api.changes(first.boot, first.version, 20))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    await subject.api.state(Statement(2))
    async with asyncio.timeout(5):
        assert 2 == (await waiting).revision


async def test_m4_a_statement_of_a_former_leader_is_refused(subject: Subject) -> None:
    """It changes nothing, whatever its revision is. Operators without a Lease have no epoch."""
    one, two = subject.wanted("one"), subject.wanted("two")
    await subject.api.state(Statement(5, (one,), epoch=2))
    with pytest.raises(SupernodeRefusedError, match="another operator leads since epoch 2"):
        await subject.api.state(Statement(100, (two,), epoch=1))
    changes = await subject.api.changes("", 0, 0)
    assert (5, 2) == (changes.revision, changes.epoch)
    await subject.api.state(Statement(6, (one, two), epoch=2))
    await subject.api.state(Statement(7, (one, two), epoch=3))
    await subject.api.state(Statement(8, (one,)))
    assert 8 == (await subject.api.changes("", 0, 0)).revision


@pytest.mark.parametrize("epoch", [0, 3])
async def test_m4_an_older_revision_of_the_same_epoch_is_refused(subject: Subject, epoch: int) -> None:
    """Two operators without a Lease, or a statement that arrives late."""
    one, two = subject.wanted("one"), subject.wanted("two")
    await subject.api.state(Statement(100, (one,), epoch=epoch))
    with pytest.raises(SupernodeRefusedError, match="revision 100 is in force"):
        await subject.api.state(Statement(7, (two,), epoch=epoch))
    await subject.api.state(Statement(100, (one,), epoch=epoch))
    await subject.api.state(Statement(7, (two,), epoch=epoch + 1))
    assert 7 == (await subject.api.changes("", 0, 0)).revision


async def test_h10_statements_with_numbers_and_with_names_say_the_same(subject: Subject) -> None:
    """The statement of an operator of the former minor version has names."""
    one = msgspec.structs.replace(subject.wanted("one"), path="one", peers=("a", "b"))
    receipt = await subject.api.state(Statement(1, (one,)))
    before = await subject.api.changes(receipt.boot, 0, 0)
    await subject.api.state(numbered(Statement(2, (one,))))
    assert before.numbers
    assert not (await subject.api.changes(receipt.boot, before.version, 0)).gone
    refers = msgspec.structs.replace(one, peers=(), node_set=5)
    with pytest.raises((SupernodeRefusedError, ValueError)):
        await subject.api.state(Statement(3, (refers,)))


async def test_h10_credentials_in_tables_reach_the_origin(subject: Subject) -> None:
    headers = {"Authorization": "Bearer one"}
    one = msgspec.structs.replace(subject.wanted("one"), headers=headers)
    before = await subject.api.changes("", 0, 0)
    assert before.credentials
    await subject.api.state(numbered(Statement(1, (one,), unchanged=("ns/never",)), credentials=True))
    await subject.fetch(one)
    await subject.until(one.uid, before)
    if not isinstance(subject.api, MemorySupernode):
        assert {"Bearer one"} == {each.headers["authorization"] for each in subject.origin.requests("/one")}
    refers = msgspec.structs.replace(one, headers={}, header_set=5)
    with pytest.raises((SupernodeRefusedError, ValueError)):
        await subject.api.state(Statement(3, (refers,)))


async def test_an_invalid_statement_is_rejected(subject: Subject) -> None:
    await subject.api.state(Statement(1))
    with pytest.raises(SupernodeRefusedError):
        await subject.api.state(Statement(2, (WantedTask("u", "ns/t", "not a task ID", "http://o/f"),)))
    assert 1 == (await subject.api.changes("", 0, 0)).revision


async def test_a_question_about_an_unknown_image_has_a_reason(subject: Subject) -> None:
    answer = await subject.api.resolve(Resolve("127.0.0.1:1/a:1", ("linux/amd64",)))
    assert (True, "") == (bool(answer.reason), answer.digest)


async def test_the_progress_names_an_unfinished_task(subject: Subject) -> None:
    one = subject.wanted("one", always=Behaviour(stall_after=500))
    receipt = await subject.api.state(Statement(1, (one,)))
    if isinstance(subject.api, MemorySupernode):
        subject.api.shown = Progress(receipt.boot, time.time(), (TaskProgressView(one.task_id),))

    async def shown() -> bool:
        progress = await subject.api.progress()
        assert progress is not None
        assert (receipt.boot, ()) == (progress.boot, progress.silent)
        assert abs(time.time() - progress.at) < 5
        return [one.task_id] == [each.task_id for each in progress.tasks]

    await eventually(shown)


async def test_an_older_supernode_has_no_progress() -> None:
    """It answers 404."""
    async with web_server() as port:
        api = HTTPSupernodeAPI(f"http://127.0.0.1:{port}")
        assert await api.progress() is None
        with pytest.raises(SupernodeRefusedError):
            await api.changes("", 0, 0)
        await api.close()


async def test_a_stopped_supernode_is_unavailable(subject: Subject) -> None:
    await subject.stop()
    for call in (subject.api.state(Statement(1)), subject.api.changes("", 0, 0), subject.api.progress()):
        with pytest.raises(SupernodeUnavailableError):
            await call
