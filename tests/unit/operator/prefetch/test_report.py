"""The mode Plan: a report of what would be done."""

from dataclasses import replace
from typing import Any

import msgspec

from pantala_operator.plan.prefetch.inputs import ObservedImages
from pantala_operator.plan.prefetch.plan import plan
from pantala_protocol.images import RuntimeState
from pantala_protocol.rules.selection import Taint
from tests.support.prefetch import (
    NO,
    NOW,
    ONE,
    SECOND,
    TWO,
    YES,
    World,
    cluster,
    digest,
    node,
    refused,
    settled,
    world,
)  # fmt: skip


def test_mode_plan_changes_nothing_and_reports_what_would_be_done() -> None:
    it = world(node("a"), node("b"), node("tainted", Taint("gpu", "NoSchedule")), node("bare"), mode="Plan")
    peers = {name: peer for name, peer in it.cluster.peers.items() if name != "bare"}
    it.cluster = replace(it.cluster, peers=peers)
    it.plan()
    runtime = RuntimeState(disk_free=1000, blobs={digest("9"): True})
    made = plan(it.each, replace(it.observe(), runtimes={"a": runtime}), it.now)
    it.each = msgspec.structs.replace(it.each, status=made.status)
    assert ((), ()) == (made.tasks.apply, made.tasks.delete)
    assert not any((made.orders.orders or {}).values())
    assert {""} == {image.task for image in made.status.images}
    report = made.status.plan
    assert report is not None
    assert (410, 210) == (report.size, report.registry_bytes)
    assert [("b", 210, None, None), ("a", 200, 1000, 300)] == [
        (each.node, each.size, each.disk_free, each.disk_free_after) for each in report.nodes
    ]
    assert [("bare", "NoPeer"), ("tainted", "Tainted")] == [(each.node, each.reason) for each in report.left_out]
    assert [(NO, "Planned")] * 3 == it.summary()
    it.fits()


def planned(**spec: Any) -> World:
    """With a complete report."""
    it = settled(mode="Plan", **spec)
    assert (NO, "Planned") == it.says("Ready")
    return it


def test_a_complete_report_does_not_miss_its_deadline() -> None:
    it = planned(activeDeadlineSeconds=60)
    it.now = NOW + 61 * SECOND
    it.turn(2)
    assert [(NO, "Planned")] * 3 == it.summary()


def test_a_report_survives_a_restart() -> None:
    it = planned()
    before = it.each.status
    assert before.plan is not None
    for reported in (False, True):
        made = plan(it.each, ObservedImages(it.cluster, reported=reported), it.now)
        assert before == made.status, f"reported: {reported}"
    assert [ONE, TWO] == [each.image for _, each in made.questions]
    it.answers.clear()
    it.cluster = cluster(*map(node, "abc"), node("late"))
    it.turn(3)
    assert it.each.status.plan is not None
    assert 4 == it.each.status.plan.nodes_total


def test_a_report_covers_the_images_that_exist() -> None:
    it = world(mode="Plan")
    it.registry[TWO] = refused("NotFound", "no such tag")
    it.settle()
    assert (YES, "NotFound") == it.says("Stalled")
    assert it.each.status.plan is not None
    assert (3, 110) == (it.each.status.plan.nodes_total, it.each.status.plan.registry_bytes)
    assert [("", TWO, "NotFound")] == it.failures()
