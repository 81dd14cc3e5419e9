"""Late nodes and the progress of images."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from pantala_operator.control.prefetch_state import PrefetchState
from pantala_operator.plan import image_task
from pantala_operator.plan.nodes import MAX_NODES, SourceBytes, Trouble
from pantala_operator.plan.targets import PeerState
from pantala_operator.resources.api import ByteCount, Metadata, TaskResource, TaskSource, TaskSpec, TaskStatus
from pantala_protocol.images import PullPhase
from tests.support.prefetch import (
    NO,
    NOW,
    ONE,
    ONLY_ONE,
    READY,
    TWO,
    YES,
    World,
    failed,
    numbered,
    pending,
    refused,
    world,
)

SILENT = Trouble.of("NodeSilent", "No supernode hears from it", 1_700_000_000.0)


def children(it: World) -> Iterator[TaskStatus]:
    """The statuses of the images' Tasks, in the sequence of their images."""
    assert it.latest is not None
    state = PrefetchState(snapshot=it.latest.snapshot, late=it.latest.late)
    for name, owned in sorted(it.children.items(), key=lambda item: item[1].image):
        child = TaskResource(Metadata(name, "ns"), TaskSpec(TaskSource(image=owned.image), depth="Runtime"))
        yield image_task.status_of_child(child, it.each.status, state.late_with(name), NOW)


def test_the_progress_counts_the_bytes_of_running_pulls() -> None:
    it = world(images=ONLY_ONE, outcome=pending)
    it.turn(4)
    assert "0%" == it.each.status.progress == it.each.status.images[0].progress
    for pulls in it.pulls.values():
        for name, pull in pulls.items():
            pulls[name] = msgspec.structs.replace(pull, fetched=(it.each.status.images[0].size or 0) // 2)
    it.turn()
    assert "50%" == it.each.status.progress == it.each.status.images[0].progress
    it.finish()
    assert "100%" == it.each.status.progress


def test_bytes_on_nodes_that_do_not_count_are_no_progress() -> None:
    """The node a has the image, and then it cannot be reached any more. Half of the image is on each of the others."""
    it = world(images=ONLY_ONE, outcome=lambda _image, name, _: READY if name == "a" else None)
    it.turn(6)
    for pulls in it.pulls.values():
        for name, pull in pulls.items():
            size = it.each.status.images[0].size or 0
            pulls[name] = msgspec.structs.replace(pull, fetched=size if name == "a" else size // 2)
    it.turn()
    assert "66%" == it.each.status.progress
    it.cluster = replace(it.cluster, peers={**it.cluster.peers, "a": PeerState(connected=False)})
    it.turn()
    assert ("50%", "50%") == (it.each.status.progress, it.each.status.images[0].progress)
    assert [2] == [status.peers.desired for status in children(it) if status.peers is not None]


def test_the_rate_of_a_run_changes_only_with_its_bytes() -> None:
    """Else the status of a run that is never completed would be written every few seconds for days."""
    much = msgspec.structs.replace(READY, fetched=10**12)
    it = world(images=ONLY_ONE, outcome=lambda _image, name, _: much if name == "a" else None)
    it.turn(6)
    before = it.each.status.transferred
    assert before is not None
    assert (10**12, True) == (before.fetched, before.per_second > 10**10)
    it.turn(5, seconds=60)
    assert before == it.each.status.transferred
    it.finish()
    after = it.each.status.transferred
    assert after is not None
    assert before.per_second > after.per_second > 0
    assert before.fetched < after.fetched


def test_the_task_of_an_image_shows_its_progress() -> None:
    it = world(images=ONLY_ONE, outcome=lambda _image, name, _: READY if name == "a" else None)
    it.turn(6)
    (status,) = children(it)
    assert ("33%", "1/3") == (status.progress, status.summary)
    assert status.peers is not None
    assert (3, 1, 2, 0, 0, 0) == msgspec.structs.astuple(status.peers)


def test_a_silent_node_is_late() -> None:
    it = world(images=ONLY_ONE, outcome=lambda _image, name, _: None if name == "c" else READY)
    it.turn(5)
    it.troubles["c"] = SILENT
    it.turn()
    assert [(NO, "NodeSilent"), (YES, "NodeSilent")] == it.summary()[:2]
    assert f"2 of 3 nodes have all images. c: {SILENT.text}" == it.message("Ready")
    status = it.each.status
    assert [("c", "NodeSilent")] == [(each.node, each.reason) for each in status.late]
    assert status.nodes is not None
    assert (1, 0, 0) == (status.nodes.late, status.nodes.active, status.nodes.waiting)
    assert [status.late] == [child.late for child in children(it)]
    del it.troubles["c"]
    it.finish()
    assert () == it.each.status.late
    it.fits()


def test_the_task_of_an_image_counts_only_its_own_late_nodes() -> None:
    it = world(outcome=lambda image, _name, _: READY if image.startswith(ONE) else None)
    it.turn(6)
    it.troubles["c"] = SILENT
    it.turn()
    assert it.each.status.late
    one, two = children(it)
    assert [(), ("c",)] == [tuple(each.node for each in status.late) for status in (one, two)]
    assert one.peers is not None
    assert two.peers is not None
    assert (0, 1) == (one.peers.late, two.peers.late)


def test_the_task_of_an_image_counts_all_late_nodes() -> None:
    it = world(*numbered(20), images=ONLY_ONE, outcome=pending, parallelism=20)
    it.turn(4)
    it.troubles |= dict.fromkeys(it.cluster.nodes, SILENT)
    it.turn()
    (status,) = children(it)
    assert status.peers is not None
    assert (MAX_NODES, 20) == (len(status.late), status.peers.late)


def test_a_failed_node_and_a_ready_node_are_not_late() -> None:
    it = world(images=ONLY_ONE, outcome=lambda _image, name, _: failed("NoSpace") if name == "c" else READY)
    it.turn(6)
    it.troubles |= {"a": SILENT, "c": SILENT}
    it.plan()
    assert () == it.each.status.late
    assert {PullPhase.FAILED} == {pulls["c"].phase for pulls in it.pulls.values()}


@pytest.mark.parametrize("spec", [{"suspend": True}, {"mode": "Plan"}, {"schedule": {"cron": "0 6 * * *"}}], ids=str)
def test_no_node_is_late_while_nothing_runs(spec: dict[str, Any]) -> None:
    it = world(images=ONLY_ONE, outcome=pending, **spec)
    it.turn(4)
    it.troubles["c"] = SILENT
    it.turn()
    assert () == it.each.status.late
    assert it.latest is not None
    assert {} == it.latest.late


def test_a_registry_that_fails_comes_before_a_late_node() -> None:
    it = world(outcome=pending)
    it.registry[TWO] = refused("RegistryUnavailable", "it does not answer")
    it.turn(4)
    it.troubles["c"] = SILENT
    it.turn()
    assert (NO, "RegistryUnavailable") == it.summary()[0]
    assert ["c"] == [each.node for each in it.each.status.late]


def test_a_node_that_is_gone_says_why() -> None:
    it = world(images=ONLY_ONE, outcome=lambda _image, name, _: None if name == "a" else READY)
    it.turn(5)
    it.cluster.peers["c"] = PeerState(connected=False)  # type: ignore[index]
    it.troubles["c"] = SILENT
    it.plan()
    assert ("c", "NodeSilent") in [(each.node, each.reason) for each in it.each.status.failures]


def test_the_bytes_of_an_image_never_become_fewer() -> None:
    """The operator knows them only while and shortly after they move."""
    status = TaskStatus(digest="sha256:a")
    assert status is image_task.with_bytes(status, None)
    status = image_task.with_bytes(status, SourceBytes(9, 5, 2))
    assert ByteCount(9, 5, 2, 7, "9") == status.transferred
    assert ByteCount(9, 6, 2, 8, "9") == image_task.with_bytes(status, SourceBytes(3, 6, 0)).transferred
    assert image_task.with_bytes(TaskStatus(), SourceBytes(9, 5, 2)).transferred is None
