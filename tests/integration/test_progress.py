"""What a real supernode says about downloads under way: rates, slow origins and silent peers."""

import asyncio
import resource
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path

import msgspec
import pytest

from pantala_protocol import task_id
from pantala_protocol.console.progress import Progress
from pantala_protocol.reasons import Reason
from pantala_protocol.statement import WantedTask
from pantala_supernode.sync.timing import SyncTiming
from tests.support.eventually import eventually
from tests.support.links import SlowLink
from tests.support.manual_peer import ManualPeer
from tests.support.peer_lab import peer_process
from tests.support.small_disk import resize, small_disk
from tests.support.supernode_lab import SupernodeLab

MIB = 1024 * 1024


class Lab(SupernodeLab):
    def wanted(self, *peers: str, path: str = "/f", uid: str = "u1") -> WantedTask:
        url = self.origin.url(path)
        return WantedTask(uid, "ns/t", task_id.compute(url), url, path=f"ns/{uid}", peers=peers, attempt="1/")

    async def progress(self) -> Progress:
        async with self.session.get(f"{self.url}/api/v1/progress") as answer:
            assert 200 == answer.status, await answer.text()
            return msgspec.json.decode(await answer.read(), type=Progress)

    async def sees(self, check: Callable[[Progress], object], *, within: float) -> Progress:
        async def seen() -> Progress | None:
            progress = await self.progress()
            return progress if check(progress) else None

        return await eventually(seen, within=within, every=0.1)

    def process(self, name: str, *flags: str) -> AbstractAsyncContextManager[asyncio.subprocess.Process]:
        return peer_process(self.url, self.folder / name, name, *flags)


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with Lab(tmp_path) as lab:
        yield lab


async def test_the_rates_of_origin_and_nodes_add_up_to_the_bytes(lab: Lab) -> None:
    size = 16 * MIB + 12345
    lab.serve(size, rate=8.0 * MIB)
    nodes = {"n1", "n2"}
    for name in nodes:
        await lab.peer(name)
    await lab.state(lab.wanted(*nodes))
    origin, verified, flowed = 0, dict.fromkeys(nodes, 0), dict.fromkeys(nodes, 0)
    furthest, busy, moved = dict.fromkeys(nodes, 0), False, (0, 0)
    deadline, due = time.monotonic() + 30, time.monotonic()
    while (progress := await lab.progress()).tasks or not busy:
        assert time.monotonic() < deadline
        for task in progress.tasks:
            busy, origin = True, origin + task.origin_rate
            moved = task.origin_bytes, task.supernode_bytes + task.peer_bytes
            assert "" == task.reason
            for node in task.nodes:
                verified[node.node] += node.rate
                flowed[node.node] += sum(flow.rate for flow in node.flows)
                furthest[node.node] = node.bytes
                assert {flow.provider for flow in node.flows} <= {"", *nodes} - {node.node}
        due += 1.0
        await asyncio.sleep(max(0.0, due - time.monotonic()))
    assert (size, 2 * size) == moved
    assert size == pytest.approx(origin, rel=0.05)
    assert dict.fromkeys(nodes, size) == pytest.approx(verified, rel=0.05)
    assert verified == pytest.approx(flowed, rel=0.001)
    assert dict.fromkeys(nodes, size) == furthest
    assert 0 < progress.volume_free < progress.volume_bytes
    assert [] == list(lab.app.managers.progress.flows)


async def test_a_frozen_peer_is_silent_within_twelve_seconds_and_until_it_speaks(lab: Lab) -> None:
    """One peer has nothing to do, one waits for a slow origin, one leaves."""
    lab.serve(64 * MIB, rate=MIB / 2.0)
    lab.serve(1000, "/late", delay=11.0)
    async with AsyncExitStack() as stack:
        peers = {name: await stack.enter_async_context(lab.process(name)) for name in ("busy", "idle", "left")}
        await lab.state(lab.wanted("busy"), lab.wanted(path="/late", uid="u2"))
        late = asyncio.create_task(lab.sees(lambda seen: "sends nothing." in _messages(seen), within=12))
        await lab.sees(lambda seen: any(node.bytes for task in seen.tasks for node in task.nodes), within=20)
        await lab.until(lambda changes: {"busy", "idle", "left"} == {peer.name for peer in changes.peers})
        peers["left"].terminate()
        frozen = time.time()
        for name in ("busy", "idle"):
            peers[name].send_signal(signal.SIGSTOP)
        both = await lab.sees(lambda seen: len(seen.silent) > 1, within=frozen + 12 - time.time())
        assert {"busy", "idle"} == {peer.name for peer in both.silent}
        assert all(frozen - 9 < peer.since < frozen + 1 for peer in both.silent)
        await late
        slow = await lab.sees(lambda seen: "sends nothing." not in _messages(seen), within=3)
        assert "sends less than 1 MiB/s." in _messages(slow)
        assert [Reason.SOURCE_SLOW] == [task.reason for task in slow.tasks if task.reason]
        for name in ("busy", "idle"):
            peers[name].send_signal(signal.SIGCONT)
        await lab.sees(lambda seen: not seen.silent, within=5)


async def test_nodes_without_file_handles_or_disk_have_their_own_reason_until_it_ends(lab: Lab, tmp_path: Path) -> None:
    lab.serve(1000, "/first")
    lab.serve(6 * MIB, "/second")
    names = ("n1", "n2")
    first, second = lab.wanted(*names, path="/first", uid="u1"), lab.wanted(*names, path="/second", uid="u2")
    with small_disk(tmp_path / "disk", 4 * MIB) as disk:
        async with lab.process("n1") as running, lab.process("n2", "--disk-headroom", "0", "--root", str(disk / "n2")):
            await lab.state(first)
            await lab.until(lambda changes: changes.tasks and set(names) == set(changes.tasks[0].ready_peers))
            limits = resource.prlimit(running.pid, resource.RLIMIT_NOFILE)
            resource.prlimit(running.pid, resource.RLIMIT_NOFILE, (1, limits[1]))
            await lab.state(first, second)
            expected = {"n1": Reason.NODE_FILES_EXHAUSTED, "n2": Reason.NODE_DISK_FULL}
            seen = await lab.sees(lambda seen: expected == _reasons(seen), within=15)
            late = {node.node: node for task in seen.tasks for node in task.nodes if node.reason}
            assert "Too many open files" in late["n1"].message
            assert all(seen.at - 15 < node.since <= seen.at for node in late.values())
            changes = await lab.until(lambda changes: 2 == sum(report.failed_peers for report in changes.tasks))
            failures = [failure for report in changes.tasks for failure in report.failures]
            assert expected == {failure.peer: failure.reason for failure in failures}
            resource.prlimit(running.pid, resource.RLIMIT_NOFILE, limits)
            resize(disk, 64 * MIB)
            await lab.sees(lambda seen: not _reasons(seen), within=15)
            changes = await lab.until(lambda changes: all(2 == len(report.ready_peers) for report in changes.tasks))
            assert [()] * 2 == [report.failures for report in changes.tasks]


async def test_a_provider_that_refuses_a_node_is_named_until_it_serves_the_node(tmp_path: Path) -> None:
    """The node reaches the API of the supernode, and not its pieces."""
    async with Lab(tmp_path, advertise="127.0.0.2") as lab:
        lab.serve(4 * MIB)
        await lab.peer("n1")
        await lab.state(lab.wanted("n1"))
        seen = await lab.sees(_reasons, within=15)
        assert {"n1": Reason.PROVIDER_REFUSED} == _reasons(seen)
        assert "The supernode's piece server cannot be reached from node n1." == seen.tasks[0].nodes[0].message
        port = lab.settings.piece_listen.port
        async with SlowLink(64.0 * MIB).serving(port, "127.0.0.2", port):
            await lab.until(lambda changes: changes.tasks[0].ready_peers)
        await lab.sees(lambda seen: not _reasons(seen), within=10)


async def test_a_peer_that_a_task_needs_is_silent_even_after_it_was_removed(lab: Lab) -> None:
    lab.app.sync._timing = SyncTiming(away_after=0.2, forgotten_after=0.5)
    lab.serve(1 * MIB)
    await lab.state(lab.wanted("needed", "left"))
    await lab.cached()
    peers = {name: ManualPeer(lab, name) for name in ("needed", "other", "left")}
    for peer in peers.values():
        await peer.say()
    await peers["left"].say(leaving=True)
    before = await lab.sees(lambda seen: 2 == len(seen.silent), within=5)
    assert {"needed", "other"} == {peer.name for peer in before.silent}
    after = await lab.sees(lambda seen: 1 == len(seen.silent), within=5)
    assert lab.app.managers.peers.get("needed") is None
    (since,) = [peer.since for peer in before.silent if peer.name == "needed"]
    assert ("needed", pytest.approx(since, abs=0.1)) == (after.silent[0].name, after.silent[0].since)
    await peers["needed"].say(inventory={})
    assert () == (await lab.progress()).silent


def _messages(progress: Progress) -> str:
    return " ".join(task.message for task in progress.tasks)


def _reasons(progress: Progress) -> dict[str, str]:
    """The reason of each node that has one."""
    return {node.node: node.reason for task in progress.tasks for node in task.nodes if node.reason}
