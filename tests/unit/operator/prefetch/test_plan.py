"""Whole plans, carried out by nodes that follow their orders."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from pantala_operator.plan.prefetch.inputs import ObservedImages, OwnedTask, Surroundings, Workload
from pantala_operator.plan.prefetch.plan import plan
from pantala_operator.plan.secrets import Absent, Unread
from pantala_operator.plan.targets import Pod
from pantala_operator.resources.api import Metadata, Node
from pantala_operator.resources.conditions import is_true
from pantala_operator.resources.prefetch import ImageKey, NodeCount
from pantala_protocol.images import PullPhase, PullState, RuntimeState
from pantala_protocol.rules.selection import Taint
from tests.support.prefetch import (
    AMD64,
    NO,
    NOW,
    ONE,
    ONLY_ONE,
    READY,
    TWO,
    UNKNOWN,
    YES,
    cluster,
    digest,
    failed,
    node,
    numbered,
    pending,
    prefetch,
    refused,
    resolved,
    settled,
    world,
)  # fmt: skip


def following(*images: str) -> Surroundings:
    """A Deployment with these images."""
    template = {"spec": {"containers": [{"image": each} for each in images]}}
    return Surroundings((Workload("Deployment", "ns", "web", template),))


ARM64 = "linux/arm64"
FOLLOWS: dict[str, Any] = {"from": {"workloadRef": {"kind": "Deployment", "name": "web"}}}


def test_every_node_gets_every_image_and_then_it_is_ready() -> None:
    it = settled()
    status = it.each.status
    assert [(YES, "Prefetched"), (NO, "Prefetched"), (NO, "Prefetched")] == it.summary()
    assert (NodeCount(desired=3, ready=3), "3/3", "210") == (status.nodes, status.summary, status.size)
    assert [(digest("a"), 110, 3, 0, 3, 0), (digest("b"), 110, 3, 0, 3, 0)] == [
        (each.digest, each.size, each.desired, each.active, each.ready, each.failed) for each in status.images
    ]
    assert status.transferred is not None
    assert (210, 600) == (status.transferred.total, status.transferred.fetched)


def test_the_first_plan_asks_for_the_digests_and_orders_nothing() -> None:
    it = world()
    made = it.plan()
    assert [(ONE, (AMD64,)), (TWO, (AMD64,))] == [(each.image, each.platforms) for _, each in made.questions]
    assert ((), {}) == (made.tasks.apply, made.orders.orders)
    assert [(UNKNOWN, "Pending"), (YES, "Progressing")] == [it.says("Resolved"), it.says("Reconciling")]


@pytest.mark.parametrize(("reading", "asked"), [(None, 0), (Unread(), 0), (Absent(), 2)])
def test_an_image_is_not_asked_for_before_its_secrets_are_read(reading: Unread | Absent | None, asked: int) -> None:
    secrets = {} if reading is None else {"s": reading}
    made = plan(prefetch(pullSecrets=["s"]), replace(world().observe(), secrets=secrets), NOW)
    assert (asked, ("s",)) == (len(made.questions), made.secrets)


def test_orders_stay_as_they_are_while_they_are_carried_out() -> None:
    it = world(outcome=pending)
    it.turn(2)
    it.plan()
    orders = it.orders
    assert orders
    for _ in range(5):
        it.turn()
        assert orders == it.orders
    it.finish()
    for task, given_before in orders.items():
        assert given_before.items() <= it.orders[task].items(), "and after that"


def test_a_failure_that_is_retried_soon_does_not_stall() -> None:
    it = world(node("a"), images=ONLY_ONE, outcome=lambda *_: failed("Unreachable"))
    it.turn(4)
    assert [(YES, "Unreachable"), (NO, "Unreachable")] == [it.says("Reconciling"), it.says("Stalled")]


def test_an_unreachable_registry_is_asked_again_after_a_pause() -> None:
    it = world(images=ONLY_ONE)
    it.registry = {ONE: refused("Unreachable")}
    asked = [len(it.turn().questions) for _ in range(10)]
    assert [1, 0, 0, 0, 0, 1, 0, 0, 0, 0] == asked
    assert (YES, "Unreachable") == it.says("Reconciling")


@pytest.mark.parametrize("what", [f"{ONE}: it is down", "docker.io/library/one: it is down", "it is down"])
def test_a_message_names_its_image_once(what: str) -> None:
    it = world(images=ONLY_ONE)
    it.registry = {ONE: refused("Unreachable", what)}
    it.turn(2)
    assert f"{ONE}: it is down" in it.message("Ready")
    assert 1 == it.message("Ready").count("library/one")


def test_a_failure_is_retried_with_a_new_number_up_to_the_limit() -> None:
    numbers: list[int] = []

    def outcome(_image: str, _node: str, number: int) -> PullState:
        numbers.append(number)
        return failed("Unreachable")

    it = settled(node("a"), images=ONLY_ONE, retry={"limit": 2}, outcome=outcome)
    assert [1, 2, 3] == numbers
    assert [(NO, "Unreachable"), (YES, "Unreachable")] == [it.says("Ready"), it.says("Stalled")]
    assert it.message("Stalled").startswith(f"0 of 1 node has all images. a, {ONE}: it failed. Check the registry")
    (listed,) = it.each.status.failures
    assert "This run does not retry the pull. To start a new run, set the annotation" in listed.message


def test_nodes_get_the_same_digest_though_a_tag_moves_during_a_run() -> None:
    it = world(rollout={"parallelism": 1}, completionPolicy="Continuous", outcome=pending)
    it.turn(2)
    it.registry[ONE] = resolved("f")
    it.now += timedelta(minutes=11)
    it.turn(2)
    it.finish()
    assert (YES, "TagMoved") == it.says("Drifted")
    assert digest("f") in it.message("Drifted")
    images = {each.image for each in it.children.values() if each.image.startswith(ONE)}
    assert {f"{ONE}@{digest('a')}"} == images
    assert (YES, "Prefetched") == it.says("Ready")


def test_a_followed_tag_moves_all_nodes_and_then_the_former_task_is_deleted() -> None:
    it = settled(updatePolicy="Follow", completionPolicy="Continuous", images=ONLY_ONE)
    (former,) = it.children
    it.registry[ONE] = resolved("f")
    it.now += timedelta(minutes=11)
    it.outcome = lambda *_: None
    it.turn(4)
    assert 2 == len(it.children)
    assert {"a", "b", "c"} == it.orders[former].keys(), "nodes keep it until they have the new one"
    it.finish()
    assert [f"{ONE}@{digest('f')}"] == [each.image for each in it.children.values()]
    assert [(YES, "Prefetched"), (NO, "AsResolved")] == [it.says("Ready"), it.says("Drifted")]


def test_a_completed_run_of_once_changes_nothing_more() -> None:
    it = settled(node("a"))
    status = it.each.status
    it.cluster = cluster(node("a"), node("late"))
    it.pulls = {}
    made = it.turn()
    assert (status, {}, ()) == (made.status, it.active(), made.questions)


def test_a_completed_run_of_once_keeps_its_tasks() -> None:
    it = world(node("a"), **FOLLOWS)
    for reference in ("one:1", "two:2"):
        it.around = following(reference)
        made = it.settle()
    assert ([f"{ONE}@{digest('a')}"], ()) == ([each.image for each in it.children.values()], made.questions)
    assert [{"a"}] == it.ordered()


def test_continuous_gives_new_nodes_the_images_and_then_removes_their_taint() -> None:
    key = "example.com/images-missing"
    it = settled(node("a"), completionPolicy="Continuous", startupTaint={"key": key, "deadlineSeconds": 600})
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


def test_an_image_that_the_kubelet_removes_twice_is_not_pulled_a_third_time() -> None:
    it = world(node("a"), images=ONLY_ONE, completionPolicy="Continuous")
    pulls = []

    def outcome(image: str, _node: str, _number: int) -> PullState:
        pulls.append(image)
        return READY

    it.outcome = outcome
    it.settle()
    for _ in range(4):
        (task,) = it.pulls
        had = it.pulls[task]["a"]
        gone = (*had.gone, it.unix)
        it.pulls[task]["a"] = msgspec.structs.replace(had, phase=PullPhase.GONE, since=it.unix, gone=gone)
        it.now += timedelta(minutes=5)
        it.turn(6)
    assert 2 == len(pulls)
    assert [(YES, "EvictedByKubelet"), (YES, "EvictedByKubelet")] == [it.says("Stalled"), it.says("EvictedByKubelet")]
    assert "spec.retention.pin" in it.message("EvictedByKubelet")
    it.request("again", images=ONLY_ONE, completionPolicy="Continuous")
    it.settle()
    assert (YES, "Prefetched") == it.says("Ready")


def test_a_workload_is_followed_when_its_images_change() -> None:
    it = world(node("a"), completionPolicy="Continuous", **FOLLOWS)
    for name, reference in (("one:1", ONE), ("two:2", TWO)):
        it.around = following(name)
        it.settle()
        assert ([reference], (YES, "Prefetched")) == ([each.image for each in it.each.status.images], it.says("Ready"))
    it.around = Surroundings()
    it.turn(2)
    assert (YES, "WorkloadMissing") == it.says("Stalled")


def test_pods_choose_the_nodes() -> None:
    it = world(target={"podSelector": {"matchLabels": {"app": "x"}}})
    it.cluster = replace(it.cluster, pods=(Pod("a", {"app": "x"}), Pod("b", {"app": "y"}), Pod("gone", {"app": "x"})))
    it.settle()
    assert ("1/1", {"a"}) == (it.each.status.summary, it.started())


@pytest.mark.parametrize(
    ("spec", "reason", "message"),
    [
        ({"target": {"names": ["elsewhere"]}}, "NoNodeMatches", "None of the cluster's 3 nodes matches spec.target."),
        ({"target": {"podSelector": {"matchLabels": {"app": "x"}}}}, "NoNodeMatches", "No pod that runs in ns matches"),
        ({"schedule": {"cron": "0 6 * * *", "timeZone": "Mars/Base"}}, "ScheduleInvalid", "Correct spec.schedule."),
    ],
)
def test_a_spec_that_nothing_can_follow_from_is_reported(spec: dict[str, Any], reason: str, message: str) -> None:
    it = world(**spec)
    it.turn(2)
    assert (YES, reason) == it.says("Stalled")
    assert message in it.message("Stalled")


@pytest.mark.parametrize(
    ("platform", "asked", "left_out"), [("", (AMD64, ARM64), "arm"), (ARM64, (ARM64,), "a")], ids=["all", "one"]
)
def test_a_node_of_a_missing_platform_is_left_out(platform: str, asked: tuple[str, ...], left_out: str) -> None:
    """An image for one platform is asked for with it."""
    it = world(
        node("a"),
        Node(Metadata("arm", labels={"kubernetes.io/arch": "arm64"})),
        images=[{"image": "one:1", "platform": platform}],
    )
    it.registry[ONE] = resolved("a", asked=frozenset(asked), platform=platform or AMD64)
    ((key, question),) = it.plan().questions
    assert (ImageKey(ONE, platform), asked) == (key, question.platforms)
    it.settle()
    assert (YES, "PlatformMissing") == it.says("Stalled")
    assert NodeCount(desired=2, ready=1, failed=1) == it.each.status.nodes
    assert [(left_out, ONE, "PlatformMissing")] == it.failures()


def test_a_budget_leaves_images_out() -> None:
    it = settled(node("a"), retention={"byteBudget": "150"})
    assert [1, 0] == [each.ready for each in it.each.status.images]
    assert (YES, "BudgetExceeded") == it.says("Stalled")


def test_a_task_of_another_owner_blocks_the_name() -> None:
    it = world(node("a"), images=ONLY_ONE)
    it.turn(2)
    (name,) = it.children
    rival = world(node("a"), images=ONLY_ONE)
    rival.children[name] = OwnedTask(name, "another", "x")
    rival.turn(3)
    assert (YES, "TaskNameTaken") == rival.says("Stalled")


def test_a_runtime_that_ignores_pinning_is_reported() -> None:
    runtimes = {"a": RuntimeState(pins=False), "b": RuntimeState(pins=True)}
    observed = replace(world().observe(), runtimes=runtimes)
    found = {each.type: each for each in plan(prefetch(retention={"pin": True}), observed, NOW).status.conditions}
    assert (NO, "RuntimeTooOld") == (found["Pinned"].status, found["Pinned"].reason)
    assert "1 of the nodes, such as a" in found["Pinned"].message
    assert not is_true(plan(prefetch(), observed, NOW).status.conditions, "Pinned")


@pytest.mark.parametrize("policy", ["Once", "Continuous"])
def test_after_a_restart_a_ready_one_stays_ready_and_orders_nothing(policy: str) -> None:
    it = settled(completionPolicy=policy)
    before = it.each.status
    made = plan(it.each, ObservedImages(it.cluster, tasks=tuple(it.children.values()), away="refused"), it.now)
    assert (before, None, ()) == (made.status, made.orders.orders, made.tasks.delete)


def test_after_a_restart_a_run_continues_where_it_was() -> None:
    it = world(rollout={"parallelism": 1}, outcome=pending)
    it.turn(4)
    active = it.active()
    it.latest, it.answers = None, {}
    made = plan(it.each, replace(it.observe(), reported=False, pulls={}, away="refused"), it.now)
    assert it.each.status.nodes == made.status.nodes
    assert {"SupernodeUnavailable"} == {each.reason for each in made.status.conditions if each.type == "Reconciling"}
    it.turn(3)
    assert active == it.active()
    assert [digest("a"), digest("b")] == [each.digest for each in it.each.status.images]


def test_the_listed_failures_name_each_cause() -> None:
    it = world(*numbered(20), retry={"limit": 0})
    it.outcome = lambda image, name, _: failed("NotFound" if name == "n19" else "NoSpace") if "one" in image else READY
    it.settle()
    assert 10 == len(it.failures())
    assert ("n19", ONE, "NotFound") in it.failures()
