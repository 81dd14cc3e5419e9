"""The plan as a whole, carried out by nodes that do as they are told."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pantala_operator.plan.headers import Absent, Unread
from pantala_operator.plan.prefetch.children import Child
from pantala_operator.plan.prefetch.forecast import Inventory
from pantala_operator.plan.prefetch.images import Surroundings, Workload
from pantala_operator.plan.prefetch.plan import plan
from pantala_operator.plan.prefetch.pull import Phase, Pull
from pantala_operator.plan.prefetch.reach import Pod
from pantala_operator.plan.prefetch.survey import Observed
from pantala_operator.plan.target import PeerState
from pantala_operator.resources.api import REQUESTED_AT, Metadata, Node, Taint
from pantala_operator.resources.conditions import is_true
from pantala_operator.resources.prefetch import ImageKey, NodeCount, PullFailure
from tests.unit.operator.prefetch.world import (
    AMD64,
    NOW,
    ONE,
    SECOND,
    TWO,
    World,
    cluster,
    digest,
    failed,
    node,
    prefetch,
    resolved,
)

ROOT = Path(__file__).resolve().parents[4]
THREE = (node("a"), node("b"), node("c"))
YES, NO, UNKNOWN = "True", "False", "Unknown"
READY = Pull(Phase.READY, NOW, fetched=100)
UNREACHABLE = Taint("node.kubernetes.io/unreachable", "NoExecute")


def world(*nodes: Node, **spec: Any) -> World:
    return World(prefetch(**spec), cluster(*(nodes or THREE)))


def edited(each: World, generation: int = 2, **spec: Any) -> None:
    each.each = msgspec.structs.replace(prefetch(generation, **spec), status=each.each.status)


def requested(each: World, word: str, **spec: Any) -> None:
    each.each = msgspec.structs.replace(prefetch(annotations={REQUESTED_AT: word}, **spec), status=each.each.status)


@cache
def schema() -> jsonschema.Draft202012Validator:
    """Of the status, as the API server holds it."""
    crd = yaml.safe_load((ROOT / "crds" / "pantala.dev_imageprefetches.yaml").read_text())
    found: dict[str, Any] = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]
    return jsonschema.Draft202012Validator(_closed(found))


def _closed(part: dict[str, Any]) -> dict[str, Any]:
    """The schema with unknown fields refused, as the API server drops them."""
    inner = {name: _closed(each) for name, each in part.get("properties", {}).items()}
    changes: dict[str, Any] = {"properties": inner, "additionalProperties": False} if inner else {}
    if "items" in part:
        changes["items"] = _closed(part["items"])
    return part | changes


def fits(each: World) -> None:
    schema().validate(msgspec.json.decode(msgspec.json.encode(each.each.status)))


def test_every_node_gets_every_image_and_then_it_is_ready() -> None:
    it = world()
    it.outcome = lambda *_: READY
    it.settle()
    status = it.each.status
    assert [(YES, "Prefetched"), (NO, "Prefetched"), (NO, "Prefetched")] == [
        it.says(kind) for kind in ("Ready", "Reconciling", "Stalled")
    ]
    assert (NodeCount(desired=3, ready=3), "3/3", "210") == (status.nodes, status.summary, status.size)
    assert [(digest("a"), 110, 3, 0, 3, 0), (digest("b"), 110, 3, 0, 3, 0)] == [
        (each.digest, each.size, each.desired, each.active, each.ready, each.failed) for each in status.images
    ]
    assert status.transferred is not None
    assert (210, 600) == (status.transferred.total, status.transferred.fetched)
    fits(it)


def test_the_first_plan_asks_what_the_tags_name_and_orders_nothing() -> None:
    made = world(pullSecrets=[]).plan()
    assert [(ONE, (AMD64,)), (TWO, (AMD64,))] == [(each.key.reference, each.platforms) for each in made.questions]
    assert ((), {}) == (made.family.apply, made.orders)
    assert [(UNKNOWN, "Pending"), (YES, "Progressing")] == [
        (each.status, each.reason) for each in made.status.conditions if each.type in {"Reconciling", "Resolved"}
    ]


def test_an_image_is_not_asked_for_before_its_secrets_are_read() -> None:
    each = prefetch(pullSecrets=["s"])
    for reading, asked in ((None, 0), (Unread(), 0), (Absent(), 2)):
        secrets = {} if reading is None else {"s": reading}
        made = plan(each, Observed(cluster(*THREE), secrets=secrets, heard=True), NOW)
        assert (asked, ("s",)) == (len(made.questions), made.secrets)


def test_orders_stay_as_they_are_while_they_are_carried_out() -> None:
    it = world()
    it.outcome = lambda *_: None
    it.turn(2)
    orders = it.plan().orders
    assert orders
    for _ in range(5):
        assert orders == it.turn().orders
    it.outcome = lambda *_: READY
    it.settle()
    kept = it.plan().orders or {}
    for task, given_before in orders.items():
        assert given_before.items() <= kept[task].items(), "and after that"


def test_a_node_that_does_not_answer_holds_its_slot_until_the_timeout() -> None:
    it = world(rollout={"parallelism": 1}, timeoutSecondsPerNode=60)
    it.turn()
    given_to = {name for given in (it.plan().orders or {}).values() for name in given}
    assert 1 == len(given_to)
    for _ in range(3):
        it.now += 10 * SECOND
        assert given_to == {name for given in (it.plan().orders or {}).values() for name in given}
    it.now += 62 * SECOND
    it.plan()
    assert (NO, "Timeout") == it.says("Ready")


def test_parallelism_and_images_at_a_time_are_never_exceeded() -> None:
    it = world(*(node(f"n{number}") for number in range(7)), rollout={"parallelism": "30%", "perNode": 2})
    seen = []
    for _ in range(40):
        it.turn()
        seen.append(it.active())
    assert 3 == max(map(len, seen))
    assert 2 == max(count for each in seen for count in each.values())
    assert (YES, "Prefetched") == it.says("Ready")


def test_one_full_disk_one_missing_image_one_node_down_and_the_others_finish() -> None:
    it = world(*THREE, node("d"), node("down", UNREACHABLE), images=[{"image": "one:1"}, {"image": "two:2"}])
    it.cluster = replace(it.cluster, peers={**it.cluster.peers, "down": PeerState()})
    it.registry = {ONE: resolved("a"), TWO: resolved("0", digest="", reason="NotFound", message="404")}
    it.outcome = lambda image, name, _: failed("NoSpace", "no space left") if name == "a" else READY
    it.settle()
    status = it.each.status
    assert status.nodes is not None
    assert (4, 1, 1) == (status.nodes.desired, status.nodes.failed, status.nodes.unavailable)
    assert 3 == status.images[0].ready
    assert {("", TWO, "NotFound"), ("a", ONE, "NoSpace"), ("down", "", "NodeUnavailable")} == {
        (each.node, each.image, each.reason) for each in status.failures
    }
    assert (NO, "NotFound") == it.says("Resolved")
    assert YES == it.says("Stalled")[0]
    assert "Check the image's name" in it.message("Resolved")
    fits(it)


def test_too_many_failures_halt() -> None:
    nodes = [node(f"n{number}") for number in range(9)]
    it = world(*nodes, rollout={"parallelism": 1, "maxFailures": 1}, retry={"limit": 0}, images=[{"image": "one:1"}])
    it.outcome = lambda *_: failed("NoSpace")
    it.settle()
    assert (YES, "TooManyFailures") == it.says("Stalled")
    assert NodeCount(desired=9, failed=2, waiting=7) == it.each.status.nodes
    assert "2 of 9 nodes are failing" in it.message("Stalled")
    it.outcome = lambda *_: READY
    requested(it, "again", rollout={"parallelism": 1, "maxFailures": 1}, images=[{"image": "one:1"}])
    it.settle()
    assert (YES, "Prefetched") == it.says("Ready")


def test_a_halted_rollout_goes_on_by_itself_when_fewer_nodes_fail() -> None:
    it = world(rollout={"parallelism": 1, "maxFailures": 0}, images=[{"image": "one:1"}])
    it.outcome = lambda *_: failed("Unreachable")
    it.turn(4)
    assert (YES, "TooManyFailures") == it.says("Stalled"), "though the one that fails is tried again"
    it.outcome = lambda *_: READY
    it.settle()
    assert ((YES, "Prefetched"), "3/3") == (it.says("Ready"), it.each.status.summary)


def test_a_failure_that_is_tried_again_soon_is_no_standstill() -> None:
    it = world(node("a"), images=[{"image": "one:1"}])
    it.outcome = lambda *_: failed("Unreachable")
    it.turn(4)
    assert [(YES, "Unreachable"), (NO, "Unreachable")] == [it.says("Reconciling"), it.says("Stalled")]


def test_a_registry_that_cannot_be_reached_is_asked_again_after_a_pause() -> None:
    it = world(images=[{"image": "one:1"}])
    it.registry = {ONE: resolved("0", digest="", reason="Unreachable")}
    asked = [len(it.turn().questions) for _ in range(10)]
    assert [1, 0, 0, 0, 0, 1, 0, 0, 0, 0] == asked
    assert (YES, "Unreachable") == it.says("Reconciling")


def test_suspending_cuts_pulls_at_once_and_resuming_goes_on() -> None:
    it = world()
    it.outcome = lambda *_: None
    it.turn(3)
    assert {"a": 1, "b": 1, "c": 1} == it.active()
    edited(it, suspend=True)
    it.turn()
    assert {} == it.active()
    assert [(NO, "Suspended")] * 3 == [it.says(kind) for kind in ("Ready", "Reconciling", "Stalled")]
    edited(it, generation=3)
    it.outcome = lambda *_: READY
    it.settle()
    assert (YES, "Prefetched") == it.says("Ready")


def test_what_is_there_is_kept_while_suspended() -> None:
    it = world()
    it.settle()
    edited(it, suspend=True)
    made = it.turn()
    assert made.orders is not None
    assert [{"a", "b", "c"}] * 2 == [given.keys() for given in made.orders.values()]


def test_a_failure_is_tried_again_with_a_new_number_and_then_no_more() -> None:
    numbers: list[int] = []

    def outcome(_image: str, _node: str, number: int) -> Pull:
        numbers.append(number)
        return failed("Unreachable")

    it = world(node("a"), images=[{"image": "one:1"}], retry={"limit": 2})
    it.outcome = outcome
    it.settle()
    assert [1, 2, 3] == numbers
    assert [(NO, "Unreachable"), (YES, "Unreachable")] == [it.says("Ready"), it.says("Stalled")]
    assert it.message("Stalled").startswith(f"0 of 1 node has all images; a, {ONE}: it failed. Check that")
    (told,) = it.each.status.failures
    assert told.message.endswith("It is not tried again in this run; pantala.dev/requested-at starts another."), told


def test_a_tag_that_moves_during_a_run_makes_no_mixture() -> None:
    it = world(rollout={"parallelism": 1}, completionPolicy="Continuous")
    it.outcome = lambda *_: None
    it.turn(2)
    it.registry[ONE] = resolved("f")
    it.now += timedelta(minutes=11)
    it.turn(2)
    it.outcome = lambda *_: READY
    it.settle()
    assert (YES, "TagMoved") == it.says("Drifted")
    assert digest("f") in it.message("Drifted")
    images = {each.image for each in it.children.values() if each.image.startswith(ONE)}
    assert {f"{ONE}@{digest('a')}"} == images
    assert (YES, "Prefetched") == it.says("Ready")


def test_a_tag_that_is_followed_moves_all_nodes_and_the_former_task_goes_last() -> None:
    it = world(updatePolicy="Follow", completionPolicy="Continuous", images=[{"image": "one:1"}])
    it.settle()
    (former,) = it.children
    it.registry[ONE] = resolved("f")
    it.now += timedelta(minutes=11)
    it.outcome = lambda *_: None
    it.turn(4)
    assert 2 == len(it.children)
    assert it.latest is not None
    assert it.latest.orders is not None
    assert {"a", "b", "c"} == it.latest.orders[former].keys(), "it is kept until the new one is there"
    it.outcome = lambda *_: READY
    it.settle()
    assert [f"{ONE}@{digest('f')}"] == [each.image for each in it.children.values()]
    assert [(YES, "Prefetched"), (NO, "AsResolved")] == [it.says("Ready"), it.says("Drifted")]


def test_a_request_resolves_anew() -> None:
    it = world(images=[{"image": "one:1"}])
    it.settle()
    it.registry[ONE] = resolved("f")
    requested(it, "again", images=[{"image": "one:1"}])
    it.settle()
    assert [digest("f")] == [each.digest for each in it.each.status.images]
    assert "again" == it.each.status.last_handled_request


def test_once_is_done_when_it_is_done() -> None:
    it = world(node("a"))
    it.settle()
    status = it.each.status
    it.cluster = cluster(node("a"), node("late"))
    it.pulls = {}
    made = it.turn()
    assert (status, {}, ()) == (made.status, it.active(), made.questions)


def test_once_leaves_its_tasks_alone_when_it_is_done() -> None:
    it = world(node("a"), **{"from": {"workloadRef": {"kind": "Deployment", "name": "web"}}})
    for reference in ("one:1", "two:2"):
        template = {"spec": {"containers": [{"image": reference}]}}
        it.around = Surroundings((Workload("Deployment", "ns", "web", template),))
        made = it.settle()
    assert ([f"{ONE}@{digest('a')}"], ()) == ([each.image for each in it.children.values()], made.questions)
    assert made.orders is not None
    assert [["a"]] == [[*given] for given in made.orders.values()]


def test_continuous_gives_nodes_that_join_the_images_and_then_takes_their_taint() -> None:
    key = "example.com/images-missing"
    spec = {"completionPolicy": "Continuous", "startupTaint": {"key": key, "deadlineSeconds": 600}}
    it = world(node("a"), **spec)
    it.settle()
    it.cluster = cluster(node("a"), node("late", Taint(key, "NoSchedule"), created=it.now))
    it.outcome = lambda *_: None
    made = it.turn()
    assert made.vote is not None
    assert (frozenset({"late"}), frozenset()) == (made.vote.keep, made.vote.release)
    assert [(NO, "Progressing"), (YES, "Progressing")] == [it.says("Ready"), it.says("Reconciling")]
    it.outcome = lambda *_: READY
    made = it.settle()
    assert made.vote is not None
    assert frozenset({"late"}) == made.vote.release
    assert (YES, "Prefetched") == it.says("Ready")


def test_an_image_that_the_kubelet_takes_twice_is_not_pulled_a_third_time() -> None:
    it = world(node("a"), images=[{"image": "one:1"}], completionPolicy="Continuous")
    pulls = []

    def outcome(image: str, _node: str, _number: int) -> Pull:
        pulls.append(image)
        return READY

    it.outcome = outcome
    it.settle()
    for _ in range(4):
        (task,) = it.pulls
        had = it.pulls[task]["a"]
        it.pulls[task]["a"] = replace(had, phase=Phase.GONE, since=it.now, gone=(*had.gone, it.now))
        it.now += timedelta(minutes=5)
        it.turn(6)
    assert 2 == len(pulls)
    assert [(YES, "EvictedByKubelet"), (YES, "EvictedByKubelet")] == [it.says("Stalled"), it.says("EvictedByKubelet")]
    assert "spec.retention.pin" in it.message("EvictedByKubelet")
    requested(it, "again", images=[{"image": "one:1"}], completionPolicy="Continuous")
    it.settle()
    assert (YES, "Prefetched") == it.says("Ready")
    fits(it)


def test_a_plan_touches_nothing_and_says_what_would_be_done() -> None:
    it = world(node("a"), node("b"), node("tainted", Taint("gpu", "NoSchedule")), node("bare"), mode="Plan")
    peers = {name: peer for name, peer in it.cluster.peers.items() if name != "bare"}
    it.cluster = replace(it.cluster, peers=peers)
    observed = replace(it.observe(), inventories={"a": Inventory(disk_free=1000, layers=frozenset({digest("9")}))})
    it.plan()
    observed = replace(observed, resolutions=dict(it.resolutions))
    made = plan(it.each, observed, it.now)
    it.each = msgspec.structs.replace(it.each, status=made.status)
    assert ((), (), {}) == (made.family.apply, made.family.delete, {k: v for k, v in (made.orders or {}).items() if v})
    assert {""} == {image.task for image in made.status.images}
    report = made.status.plan
    assert report is not None
    assert (410, 210) == (report.size, report.registry_bytes)
    assert [("b", 210, None, None), ("a", 200, 1000, 300)] == [
        (each.node, each.size, each.disk_free, each.disk_free_after) for each in report.nodes
    ]
    assert [("bare", "NoPeer"), ("tainted", "Tainted")] == [(each.node, each.reason) for each in report.left_out]
    assert [(NO, "Planned")] * 3 == [it.says(kind) for kind in ("Ready", "Reconciling", "Stalled")]
    fits(it)


def planned(**spec: Any) -> World:
    """A plan that is whole."""
    it = world(mode="Plan", **spec)
    it.settle()
    assert (NO, "Planned") == it.says("Ready")
    return it


def test_a_plan_that_is_whole_has_no_deadline_to_miss() -> None:
    it = planned(activeDeadlineSeconds=60)
    it.now = NOW + 61 * SECOND
    it.turn(2)
    assert [(NO, "Planned")] * 3 == [it.says(kind) for kind in ("Ready", "Reconciling", "Stalled")]


def test_a_plan_outlives_a_restart_as_it_is() -> None:
    it = planned()
    before = it.each.status
    assert before.plan is not None
    for heard in (False, True):
        made = plan(it.each, Observed(it.cluster, heard=heard), it.now)
        assert before == made.status, f"heard: {heard}"
    assert [ONE, TWO] == [each.key.reference for each in made.questions]
    it.resolutions.clear()
    it.cluster = cluster(*THREE, node("late"))
    it.turn(3)
    assert it.each.status.plan is not None
    assert 4 == it.each.status.plan.nodes_total


def test_a_plan_tells_what_it_can_of_images_that_are_there() -> None:
    it = world(mode="Plan")
    it.registry[TWO] = resolved("0", digest="", reason="NotFound", message="no such tag")
    it.settle()
    assert (YES, "NotFound") == it.says("Stalled")
    assert it.each.status.plan is not None
    assert (3, 110) == (it.each.status.plan.nodes_total, it.each.status.plan.registry_bytes)
    assert [("", TWO)] == [(each.node, each.image) for each in it.each.status.failures]
    fits(it)


def test_a_deadline_gives_a_run_up_and_cuts_its_pulls() -> None:
    it = world(activeDeadlineSeconds=60)
    it.outcome = lambda *_: None
    made = it.turn(3)
    assert made.wake_at == NOW + 60 * SECOND
    it.now = NOW + 60 * SECOND
    it.turn()
    assert ({}, (YES, "DeadlineExceeded")) == (it.active(), it.says("Stalled"))


@pytest.mark.parametrize(("reason", "deleted"), [("", True), ("InvalidImage", True), ("Unauthorized", False)])
def test_what_is_finished_is_deleted_after_its_time(reason: str, deleted: bool) -> None:
    it = world(ttlSecondsAfterFinished=60)
    it.outcome = lambda *_: failed(reason) if reason else READY
    it.turn(8)
    assert not it.plan().delete
    it.now += 61 * SECOND
    assert deleted == it.plan().delete


def test_a_schedule_waits_and_then_runs() -> None:
    it = world(schedule={"cron": "0 6 * * *"})
    made = it.turn()
    due = NOW + timedelta(hours=6)
    assert ((NO, "Scheduled"), due, ()) == (it.says("Ready"), made.wake_at, made.questions)
    assert (None, due) == (it.each.status.start_time, it.each.status.next_schedule_time)
    it.now = due
    it.turn(8)
    assert ((YES, "Prefetched"), due) == (it.says("Ready"), it.each.status.last_schedule_time)
    it.registry[ONE] = resolved("f")
    it.now = due + timedelta(days=1)
    it.turn(8)
    assert (YES, digest("f")) == (it.says("Ready")[0], it.each.status.images[0].digest)


def test_a_broken_schedule_is_said_to_be_so() -> None:
    it = world(schedule={"cron": "0 6 * * *", "timeZone": "Mars/Base"})
    it.turn()
    assert (YES, "ScheduleInvalid") == it.says("Stalled")


def test_workloads_are_followed_when_they_name_another_image() -> None:
    spec = {"from": {"workloadRef": {"kind": "Deployment", "name": "web"}}, "completionPolicy": "Continuous"}
    template = {"spec": {"containers": [{"image": "one:1"}]}}
    it = world(node("a"), **spec)
    it.around = Surroundings((Workload("Deployment", "ns", "web", template),))
    it.settle()
    assert [ONE] == [each.image for each in it.each.status.images]
    template = {"spec": {"containers": [{"image": "two:2"}]}}
    it.around = Surroundings((Workload("Deployment", "ns", "web", template),))
    it.settle()
    assert ([TWO], (YES, "Prefetched")) == ([each.image for each in it.each.status.images], it.says("Ready"))
    it.around = Surroundings()
    it.turn(2)
    assert (YES, "WorkloadMissing") == it.says("Stalled")


def test_pods_choose_the_nodes() -> None:
    it = world(target={"podSelector": {"matchLabels": {"app": "x"}}})
    pods = (Pod("a", {"app": "x"}), Pod("b", {"app": "y"}))
    it.cluster = replace(it.cluster, pods=pods)
    it.settle()
    assert ("1/1", ["a"]) == (it.each.status.summary, sorted({name for pulls in it.pulls.values() for name in pulls}))


def test_no_node_is_said_to_be_so() -> None:
    it = world(target={"names": ["elsewhere"]})
    it.turn(2)
    assert (YES, "NoNodeMatches") == it.says("Stalled")


def test_a_platform_that_is_missing_leaves_nodes_out() -> None:
    it = world(node("a"), Node(Metadata("arm", labels={"kubernetes.io/arch": "arm64"})), images=[{"image": "one:1"}])
    it.registry[ONE] = resolved("a", asked=frozenset({AMD64, "linux/arm64"}))
    it.settle()
    assert (YES, "PlatformMissing") == it.says("Stalled")
    assert NodeCount(desired=2, ready=1, failed=1) == it.each.status.nodes
    assert [("arm", "PlatformMissing", ONE)] == [(e.node, e.reason, e.image) for e in it.each.status.failures]


def test_a_budget_leaves_images_out() -> None:
    it = world(node("a"), retention={"byteBudget": "150"})
    it.settle()
    assert [1, 0] == [each.ready for each in it.each.status.images]
    assert (YES, "BudgetExceeded") == it.says("Stalled")


def test_a_task_of_somebody_else_is_in_the_way() -> None:
    it = world(node("a"), images=[{"image": "one:1"}])
    it.turn(2)
    (name,) = it.children
    rival = World(prefetch(images=[{"image": "one:1"}]), cluster(node("a")))
    rival.children[name] = Child(name, "somebody", "x")
    rival.turn(3)
    assert (YES, "TaskNameTaken") == rival.says("Stalled")


def test_pinning_that_a_runtime_does_not_honour_is_told() -> None:
    each = prefetch(retention={"pin": True})
    observed = Observed(
        cluster(*THREE), inventories={"a": Inventory(pins=False), "b": Inventory(pins=True)}, heard=True
    )
    found = {each.type: each for each in plan(each, observed, NOW).status.conditions}
    assert (NO, "RuntimeTooOld") == (found["Pinned"].status, found["Pinned"].reason)
    assert "1 of the nodes, such as a" in found["Pinned"].message
    assert not is_true(plan(prefetch(), observed, NOW).status.conditions, "Pinned")


@pytest.mark.parametrize("policy", ["Once", "Continuous"])
def test_a_restart_neither_unmakes_what_is_ready_nor_orders_anything(policy: str) -> None:
    it = world(completionPolicy=policy)
    it.settle()
    before = it.each.status
    made = plan(it.each, Observed(it.cluster, children=tuple(it.children.values()), away="refused"), it.now)
    assert before == made.status
    assert made.orders is None
    assert () == made.family.delete


def test_a_restart_during_a_run_goes_on_where_it_was() -> None:
    it = world(rollout={"parallelism": 1})
    it.outcome = lambda *_: None
    it.turn(4)
    active = it.active()
    it.latest, it.resolutions = None, {}
    made = plan(it.each, replace(it.observe(), heard=False, pulls={}, away="refused"), it.now)
    assert it.each.status.nodes == made.status.nodes
    assert {"SupernodeUnavailable"} == {each.reason for each in made.status.conditions if each.type == "Reconciling"}
    it.turn(3)
    assert active == it.active()
    assert [digest("a"), digest("b")] == [each.digest for each in it.each.status.images]


def test_the_failures_that_are_listed_name_each_cause() -> None:
    it = world(*(node(f"n{number:02}") for number in range(20)), retry={"limit": 0})
    it.outcome = lambda image, name, _: failed("NotFound" if name == "n19" else "NoSpace") if "one" in image else READY
    it.settle()
    assert 10 == len(it.each.status.failures)
    assert PullFailure("n19", "NotFound", ONE) in [replace_message(each, "") for each in it.each.status.failures]


def replace_message(each: PullFailure, message: str) -> PullFailure:
    return msgspec.structs.replace(each, message=message)


def test_onlookers_are_told_of_what_changes_and_once() -> None:
    it = world(node("a"))
    told = [notice for _ in range(9) for notice in it.turn().notices]
    assert [("Prefetched", False)] == [(each.reason, each.warning) for each in told]


REASONS = ["NoSpace", "Unreachable", "NotFound", "InvalidImage", "Timeout", "NeverHeardOf"]
SPECS = st.fixed_dictionaries(
    {
        "rollout": st.fixed_dictionaries(
            {"perNode": st.integers(1, 2)},
            optional={
                "parallelism": st.integers(1, 3) | st.just("50%"),
                "maxFailures": st.integers(0, 2),
                "waves": st.just([{"nodes": 1}, {"nodes": "50%"}]),
            },
        ),
        "completionPolicy": st.sampled_from(["Once", "Continuous"]),
        "retry": st.fixed_dictionaries({"limit": st.integers(0, 2)}),
    },
    optional={"activeDeadlineSeconds": st.integers(5, 500), "mode": st.just("Plan"), "suspend": st.booleans()},
)


@settings(max_examples=60, deadline=None)
@given(SPECS, st.data())
def test_whatever_happens_the_promises_hold(spec: dict[str, Any], data: st.DataObject) -> None:
    """Bounds, sums and conditions; a status that the API server takes; a wake-up in the future."""
    names = [f"n{number}" for number in range(data.draw(st.integers(1, 5)))]
    it = world(*map(node, names), **spec)
    it.outcome = lambda *_: data.draw(st.one_of(st.just(READY), st.none(), st.sampled_from(REASONS).map(failed)))
    limit = spec["rollout"].get("parallelism", len(names))
    limit = -(-len(names) // 2) if limit == "50%" else limit
    for _ in range(data.draw(st.integers(1, 25))):
        before = it.now
        made = it.turn(seconds=data.draw(st.sampled_from([1, 10, 300])))
        assert len(it.active()) <= limit
        assert max(it.active().values(), default=0) <= spec["rollout"]["perNode"]
        ready, reconciling, stalled = (is_true(made.status.conditions, k) for k in ("Ready", "Reconciling", "Stalled"))
        assert ready + reconciling + stalled <= 1
        counts = made.status.nodes
        assert counts is not None
        assert min(counts.ready, counts.active, counts.failed, counts.waiting) >= 0
        assert counts.desired == counts.ready + counts.active + counts.failed + counts.waiting == len(names)
        assert ready == (counts.ready == len(names))
        assert made.wake_at is None or made.wake_at > before
        assert 1 >= len({each.image for each in it.children.values() if each.image.startswith(ONE)})
        if spec.get("suspend") or spec.get("mode"):
            assert {} == it.active()
    fits(it)


@settings(max_examples=40, deadline=None)
@given(SPECS, st.integers(1, 6), st.integers(0, 3))
def test_if_failures_pass_every_node_has_every_image_in_the_end(spec: dict[str, Any], count: int, bad: int) -> None:
    wanted = {key: value for key, value in spec.items() if key in {"rollout", "completionPolicy"}}
    it = world(*(node(f"n{number}") for number in range(count)), **wanted)
    it.outcome = lambda _image, _node, number: failed("Unreachable") if number <= bad else READY
    it.settle(400)
    assert ((YES, "Prefetched"), f"{count}/{count}") == (it.says("Ready"), it.each.status.summary)


def test_a_key_is_an_image_and_a_platform() -> None:
    it = world(node("a"), images=[{"image": "one:1", "platform": "linux/arm64"}])
    (question,) = it.plan().questions
    assert (ImageKey(ONE, "linux/arm64"), ("linux/arm64",)) == (question.key, question.platforms)
