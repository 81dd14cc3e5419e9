"""The operator's console: the views, and the server with its headers and refusals."""

import asyncio
import gc
import time
from typing import Any

import msgspec
import pytest

from pantala_operator.console import summaries
from pantala_operator.events import ResourceChanged, StatusWritten
from pantala_operator.plan import statement
from pantala_operator.plan.secrets import Unread
from pantala_operator.plan.statement import TaskOrigin
from pantala_operator.resources.api import TaskResource
from pantala_operator.resources.prefetch import ImagePrefetch
from pantala_protocol.console.progress import Inflow, NodeDownload, Progress, TaskProgressView
from pantala_protocol.console.views import NodePhase, PeerFinding
from tests.support.console_desk import CREATED, MIB, Desk, condition, finished, peers, task


async def test_a_running_task_shows_bytes_and_rates_by_source(desk: Desk) -> None:
    desk.put(task("t", contentLength=4 * MIB, peers=peers(2, 0, 2)))
    desk.report(
        "t", length=4 * MIB, piece_size=MIB, pieces_cached=2, origin_bytes=2 * MIB, supernode_bytes=MIB, peer_bytes=MIB
    )
    desk.progress(
        "t",
        NodeDownload("a", 2 * MIB, 100, (Inflow("", MIB, 60), Inflow("b", MIB, 40)), pace=200),
        NodeDownload("b", MIB, 50, (Inflow("", MIB, 50),), pace=100),
        origin_rate=70, volume_bytes=10, volume_free=4,
    )  # fmt: skip
    desk.peer("a", "z1")
    view = await desk.view()
    [shown] = view.tasks
    assert (2 * MIB, MIB, MIB) == (shown.traffic.origin, shown.traffic.supernode, shown.traffic.peers)
    assert (70, 110, 40) == (shown.traffic.origin_rate, shown.traffic.supernode_rate, shown.traffic.peers_rate)
    assert (2 * MIB, 5 / 12) == (shown.cached, shown.progress)
    assert 5 * MIB / 300 == pytest.approx(shown.eta, abs=0.1)
    assert [("supernode", "a", 60), ("supernode", "b", 50), ("b", "a", 40)] == [
        (each.provider, each.node, each.rate) for each in view.edges
    ]
    assert ("a", "z1", 100, 0) == (
        view.peers[0].name,
        view.peers[0].zone,
        view.peers[0].rate_in,
        view.peers[0].rate_out,
    )
    assert (10, 4, 70) == (
        view.supernodes[0].volume_bytes,
        view.supernodes[0].volume_free,
        view.supernodes[0].origin_rate,
    )
    assert shown.traffic == view.traffic
    assert (PeerFinding("MirrorConfigured", "False", "NotConfigured", "Why"),) == view.peers[0].conditions
    assert view.leads


async def test_a_node_that_is_done_and_still_shows_a_rate_counts_once(desk: Desk) -> None:
    desk.put(task("t", contentLength=4 * MIB, peers=peers(3, 1, 2)))
    desk.report("t", length=4 * MIB, piece_size=MIB, pieces_cached=4)
    desk.progress(
        "t", NodeDownload("a", 4 * MIB, 100, pace=300), *(NodeDownload(name, MIB, 50, pace=100) for name in "bc")
    )
    [shown] = (await desk.view()).tasks
    assert (5 / 8, 200) == (shown.progress, shown.traffic.peers_rate)
    assert 6 * MIB / 200 == pytest.approx(shown.eta, abs=0.1)


async def test_a_task_whose_nodes_have_all_bytes_but_not_the_file_is_not_done(desk: Desk) -> None:
    """The path is taken, for example. The status shows 99 % too."""
    desk.put(task("t", contentLength=MIB, peers=peers(1, 0, 0)))
    desk.report("t", length=MIB, piece_size=MIB, pieces_cached=1, supernode_bytes=MIB)
    [shown] = (await desk.view()).tasks
    assert (0.99, None) == (shown.progress, shown.eta)


async def test_a_finished_task_keeps_the_rates_of_its_last_bytes(desk: Desk) -> None:
    """Otherwise the rates of a Task would not add up to its bytes."""
    desk.put(
        task("t", ready="True", reason="Distributed", contentLength=MIB, peers=peers(1, 1), completionTime=CREATED),
        task("old", ready="True", reason="Distributed", contentLength=MIB, peers=peers(1, 1)),
    )
    for name in ("t", "old"):
        desk.progress(name, NodeDownload("a", MIB, 50, (Inflow("", MIB, 50),), pace=60), origin_rate=70)
        [shown] = [each for each in (await desk.view()).tasks if each.name == name]
        echo = name == "t"
        assert ((70, 50) if echo else (0, 0)) == (shown.traffic.origin_rate, shown.traffic.supernode_rate)
        assert (1.0, None) == (shown.progress, shown.eta)
        assert (["t"] if echo else []) == [each.name for each in (await desk.view(unfinished=True)).tasks]
        desk.clock.advance(11)


async def test_a_finished_task_counts_as_saved_bytes(desk: Desk) -> None:
    desk.put(finished("t"))
    view = await desk.view()
    assert (MIB, 1.0, 2) == (view.saved, view.tasks[0].progress, view.tasks[0].nodes.ready)


async def test_a_task_without_nodes_shows_no_progress(desk: Desk) -> None:
    desk.put(task("t", reason="NoNodeMatches", contentLength=MIB, peers=peers(0, 0)))
    view = await desk.view()
    assert view.tasks[0].progress is None


async def test_unfinished_tasks_come_first_and_the_limit_counts_the_rest(desk: Desk) -> None:
    desk.put(*(finished(f"done-{number}") for number in range(5)), task("open"))
    view = await desk.view(limit=2)
    assert (["open", "done-0"], 4) == ([each.name for each in view.tasks], view.omitted)
    assert ["open"] == [each.name for each in (await desk.view(unfinished=True)).tasks]
    assert () == (await desk.view("other")).tasks


async def test_10_000_tasks_do_not_block_the_loop(desk: Desk) -> None:
    """Other work runs at least 50 times meanwhile, and waits each time for little of the processor's time."""
    desk.put(*(task(f"t-{number}") if number % 10 else finished(f"t-{number}") for number in range(10_000)))
    waits: list[float] = []

    async def work() -> None:
        while True:
            began = time.thread_time()
            await asyncio.sleep(0)
            waits.append(time.thread_time() - began)

    gc.freeze()  # a collection must not look at the objects of all other tests
    working = asyncio.create_task(work())
    view = await desk.view()
    working.cancel()
    gc.unfreeze()
    assert (500, 9_500) == (len(view.tasks), view.omitted)
    assert len(waits) >= 50
    assert max(waits) < 0.5


async def test_a_late_node_is_a_cause_with_its_next_step(desk: Desk) -> None:
    """The Task's ID is that of its source, as the plan computes it."""
    late = task("t", contentLength=4 * MIB, peers=peers(1, 0, 0))
    origin = statement.origin(late, Unread())
    assert isinstance(origin, TaskOrigin)
    late = msgspec.structs.replace(late, status=msgspec.structs.replace(late.status, task_id=origin.task_id))
    desk.put(late)
    desk.peer("a", "z1")
    node = NodeDownload("a", MIB, 0, reason="NodeDiskFull", message="The disk is full", since=12.0)
    views = (TaskProgressView(origin.task_id, nodes=(node,)),)
    desk.known.progress.on_progress("", Progress("boot", 1.0, views), 1.0)
    detail = desk.overview.detail(TaskResource, "ns", "t")
    assert detail is not None
    assert [("a", NodePhase.LATE, "NodeDiskFull")] == [(each.name, each.state, each.reason) for each in detail.nodes]
    assert 1 == detail.task.nodes.late
    [cause] = detail.causes
    action = "Free space on the node. The download then continues."
    assert (("a",), 12.0, action) == (cause.nodes, cause.since, cause.action)


async def test_the_timeline_keeps_each_change(desk: Desk) -> None:
    first = task("t")
    for each in (
        first,
        task("t", reason="NodeSlow"),
        task("t", reason="Progressing"),
        task("t", ready="True", reason="Distributed"),
    ):
        desk.put(msgspec.structs.replace(each, metadata=msgspec.structs.replace(each.metadata, resource_version="x")))
        desk.events.publish(ResourceChanged(each))
        desk.clock.advance(5)
    detail = desk.overview.detail(TaskResource, "ns", "t")
    assert detail is not None
    assert ["Created", "NodeSlow", "Progressing", "Distributed"] == [each.reason for each in detail.timeline]


async def test_the_timeline_has_a_status_whose_write_is_answered_before_the_watch_brings_it(desk: Desk) -> None:
    """The watch then skips the version, because the observation has it already."""
    desk.put(first := task("t"))
    desk.events.publish(ResourceChanged(first))
    desk.clock.advance(1)
    slow = task("t", reason="SourceSlow")
    desk.put(
        slow := msgspec.structs.replace(slow, metadata=msgspec.structs.replace(slow.metadata, resource_version="x"))
    )
    desk.events.publish(StatusWritten(slow))
    at = desk.clock.now().timestamp()
    desk.clock.advance(20)
    detail = desk.overview.detail(TaskResource, "ns", "t")
    assert detail is not None
    assert ("SourceSlow", at) in [(each.reason, each.at) for each in detail.timeline]
    assert [("SourceSlow", at)] == [(each.reason, each.since) for each in detail.causes]


async def test_a_replica_that_does_not_lead_names_the_leader(desk: Desk) -> None:
    desk.term.end()
    view = await desk.view()
    assert (False, "pod-b") == (view.leads, view.leader)


async def test_an_image_prefetch_has_a_summary_and_details(desk: Desk) -> None:
    body: dict[str, Any] = {
        "metadata": {"name": "p", "namespace": "ns", "uid": "u", "creationTimestamp": CREATED},
        "spec": {"images": [{"image": "r.example/a:1"}]},
        "status": {
            "conditions": [condition("Ready", "False", "PullFailed")],
            "progress": "40%",
            "nodes": {"desired": 4, "ready": 1, "active": 1, "failed": 1, "waiting": 1},
            "bytes": {"total": 100, "fetched": 160, "perSecond": 10},
            "images": [{"image": "r.example/a:1", "bytes": 100, "desired": 4}],
            "failures": [{"node": "a", "reason": "PullFailed", "image": "r.example/a:1", "message": "It failed"}],
        },
    }
    began = {**body, "status": body["status"] | {"progress": "0%"}}
    assert summaries.of_prefetch(msgspec.convert(began, ImagePrefetch)).eta is None
    desk.known.prefetches.update(msgspec.convert(body, ImagePrefetch))
    view = await desk.view()
    [shown] = view.tasks
    assert ("ImagePrefetch", "r.example/a:1", 0.4, 24.0, 4) == (
        shown.kind,
        shown.image,
        shown.progress,
        shown.eta,
        shown.nodes.desired,
    )
    detail = desk.overview.detail(ImagePrefetch, "ns", "p")
    assert detail is not None
    assert ["PullFailed"] == [each.reason for each in detail.causes]
