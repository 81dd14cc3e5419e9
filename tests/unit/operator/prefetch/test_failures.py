"""Nodes that go down or fail, and images that their registry does not resolve: all other nodes and images finish."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from pantala_operator.plan.targets import PeerState
from pantala_operator.resources.prefetch import NodeCount
from pantala_protocol.images import PullPhase, PullState
from pantala_protocol.rules.selection import Taint
from tests.support.prefetch import (
    NO,
    NOW,
    ONLY_ONE,
    READY,
    SECOND,
    TWO,
    UNREACHABLE,
    YES,
    World,
    cluster,
    failed,
    node,
    numbered,
    pending,
    refused,
    resolved,
    settled,
    world,
)

MISSING = "the registry has no such tag"


def lose(it: World, name: str, *taints: Taint) -> None:
    """Disconnect its peer. The taints tell why, unless the cluster has not noticed yet."""
    nodes = {**it.cluster.nodes, name: node(name, *taints)}
    it.cluster = replace(it.cluster, nodes=nodes, peers={**it.cluster.peers, name: PeerState()})


@pytest.mark.parametrize("taints", [(), (UNREACHABLE,)], ids=["at once", "when the cluster has noticed"])
def test_a_node_that_goes_down_while_it_pulls(taints: tuple[Taint, ...]) -> None:
    it = world(images=ONLY_ONE, outcome=lambda _image, name, _: None if name == "c" else READY)
    it.turn(6)
    assert NodeCount(desired=3, ready=2, active=1) == it.each.status.nodes
    lose(it, "c", *taints)
    it.turn()
    status = it.each.status
    assert (NodeCount(desired=2, ready=2, unavailable=1), "2/2") == (status.nodes, status.summary)
    assert [("c", "", "NodeUnavailable")] == it.failures()
    assert "Check the node and its peer's pod" in status.failures[0].message
    assert (YES, "Prefetched") == it.says("Ready")
    assert it.now - NOW < 30 * SECOND, "no timeout had to pass"
    it.fits()


def test_a_ready_node_that_goes_down_is_not_counted_and_keeps_its_orders() -> None:
    it = settled(completionPolicy="Continuous")
    lose(it, "b")
    it.turn()
    assert NodeCount(desired=2, ready=2, unavailable=1) == it.each.status.nodes
    assert all("b" in given for given in it.ordered())


def test_a_failed_node_that_goes_down_does_not_halt_the_rollout() -> None:
    it = world(images=ONLY_ONE, rollout={"parallelism": 1, "maxFailures": 0}, retry={"limit": 0})
    it.outcome = lambda *_: failed("NoSpace")
    it.turn(4)
    ((name, *_),) = it.failures()
    assert (YES, "TooManyFailures") == it.says("Stalled")
    lose(it, name)
    it.finish()
    assert NodeCount(desired=2, ready=2, unavailable=1) == it.each.status.nodes


def test_a_node_that_is_removed_while_it_pulls_is_forgotten() -> None:
    it = world(images=ONLY_ONE, rollout={"parallelism": 1}, outcome=pending)
    it.turn(3)
    (name,) = it.active()
    it.cluster = cluster(*(node(each) for each in ("a", "b", "c") if each != name))
    it.turn()
    assert name not in set().union(*it.ordered())
    it.finish()
    assert (NodeCount(desired=2, ready=2), ()) == (it.each.status.nodes, it.each.status.failures)


def test_removing_an_image_from_the_spec_cancels_its_pulls() -> None:
    it = world(outcome=lambda image, *_: READY if "two" in image else None)
    it.turn(3)
    assert {"a": 1, "b": 1, "c": 1} == it.active()
    it.edit(images=[{"image": "two:2"}])
    it.settle()
    assert ({}, (YES, "Prefetched")) == (it.active(), it.says("Ready"))
    assert ([TWO], 1) == ([each.image for each in it.each.status.images], len(it.children))


def broken(count: int, **spec: object) -> World:
    """Nodes whose pulls fail."""
    return world(*numbered(count), images=ONLY_ONE, outcome=lambda *_: failed("NoSpace"), **spec)


def test_too_many_failures_halt_the_rollout() -> None:
    rollout = {"parallelism": 1, "maxFailures": 1}
    it = broken(9, rollout=rollout, retry={"limit": 0})
    it.settle()
    assert (YES, "TooManyFailures") == it.says("Stalled")
    counts = msgspec.to_builtins(it.each.status.nodes)
    assert {"desired": 9, "ready": 0, "active": 0, "failed": 2, "waiting": 7, "unavailable": 0, "late": 0} == counts
    assert "2 of 9 nodes are failing" in it.message("Stalled")
    it.request("again", rollout=rollout, images=ONLY_ONE)
    it.finish()


def test_a_node_that_retries_still_counts_as_failing() -> None:
    """Otherwise each retry would let another node start, until all have failed."""
    it = broken(8, rollout={"parallelism": 2, "maxFailures": 0})
    bad: set[str] = set()

    def outcome(_image: str, name: str, _number: int) -> PullState:
        bad.add(name) if not bad else None
        return failed("NoSpace") if name in bad else READY

    it.outcome = outcome
    it.turn(4)
    before = it.started()
    assert 2 == len(before)
    it.turn(100)
    assert before == it.started()
    it.finish()
    assert "8/8" == it.each.status.summary


def test_a_pull_after_the_kubelet_removed_the_image_is_not_a_failure() -> None:
    it = broken(3, rollout={"parallelism": 2, "maxFailures": 0}, completionPolicy="Continuous")
    it.outcome = pending
    it.turn(3)
    (task,) = it.pulls
    name, other = sorted(it.active())
    run = it.pulls[task][name].run
    it.pulls[task][name] = PullState(PullPhase.GONE, it.unix, run, 1, gone=(it.unix,))
    it.turn(2)
    assert (2, PullPhase.PULLING) == (it.pulls[task][name].number, it.pulls[task][name].phase)
    it.pulls[task][other] = PullState(PullPhase.READY, it.unix, run, 1)
    it.turn(2)
    assert 3 == len(it.started())


def test_a_rollout_that_is_halted_for_good_is_finished() -> None:
    it = broken(4, rollout={"parallelism": 1, "maxFailures": 0}, retry={"limit": 1}, ttlSecondsAfterFinished=60)
    it.turn(4)
    assert (YES, "TooManyFailures") == it.says("Stalled"), "although the node is tried again"
    it.now = it.now.replace(minute=30)
    assert not it.plan().delete, "the node that fails is tried again"
    it.settle()
    it.now = it.now.replace(minute=59)
    assert it.plan().delete


def without_two(reason: str = "NotFound", **spec: Any) -> World:
    it = world(**spec)
    it.registry[TWO] = refused(reason, MISSING)
    return it


@pytest.mark.parametrize(
    ("reason", "action"),
    [("NotFound", "Check the image's name"), ("Unauthorized", "credentials for this registry in spec.pullSecrets")],
)
def test_a_missing_image_is_listed_without_a_node_and_the_others_reach_all_nodes(reason: str, action: str) -> None:
    it = without_two(reason)
    it.settle()
    (named,) = msgspec.to_builtins(it.each.status)["failures"]
    assert {"reason": reason, "image": TWO} == {key: named[key] for key in named.keys() - {"message"}}
    assert named["message"].startswith(f"No node pulls it: {MISSING}. ")
    assert action in named["message"]
    assert [3, 0] == [each.ready for each in it.each.status.images]
    assert [(NO, reason), (NO, reason), (YES, reason)] == it.summary()
    assert (NodeCount(desired=3, waiting=3), "0/3") == (it.each.status.nodes, it.each.status.summary)


def test_a_missing_image_is_listed_while_the_others_are_pulled_and_until_the_registry_has_it() -> None:
    it = without_two(outcome=pending)
    it.turn(4)
    assert [("", TWO, "NotFound")] == it.failures()
    assert [(NO, "NotFound"), (YES, "NotFound")] == it.summary()[:2]
    assert it.message("Ready").startswith("0 of 3 nodes have all images. ")
    it.registry[TWO] = resolved("b")
    it.now += timedelta(minutes=5)
    it.finish()
    assert [] == it.failures()


def test_a_missing_image_is_not_a_nodes_failure() -> None:
    """It holds back no wave, and it does not halt a rollout."""
    waves = [{"nodes": 1}, {"nodes": 1}]
    it = without_two(rollout={"maxFailures": 0, "parallelism": 1, "waves": waves})
    it.settle()
    assert ([3, 0], (YES, "NotFound")) == ([each.ready for each in it.each.status.images], it.says("Stalled"))


def fails_on_a(_image: str, name: str, _number: int) -> Any:
    return failed("NoSpace") if name == "a" else READY


def test_a_halt_is_reported_only_if_it_holds_back_a_node() -> None:
    """All nodes have started, so only the image is missing."""
    it = without_two(rollout={"maxFailures": 0}, retry={"limit": 0}, outcome=fails_on_a)
    it.settle()
    assert (YES, "NotFound") == it.says("Stalled")
    assert {("a", "NoSpace"), ("", "NotFound")} == {(name, reason) for name, _, reason in it.failures()}


def test_many_missing_images_do_not_hide_the_nodes_failures() -> None:
    names = [f"missing{number}:1" for number in range(12)]
    it = world(images=[{"image": "one:1"}, *({"image": name} for name in names)], outcome=fails_on_a)
    it.registry |= {f"docker.io/library/{name}": refused("NotFound") for name in names}
    it.settle()
    assert (10, True) == (len(it.failures()), "a" in {name for name, *_ in it.failures()})


def test_a_later_refusal_does_not_affect_a_resolved_image() -> None:
    it = settled(completionPolicy="Continuous")
    it.registry[TWO] = refused("RateLimited", "asked too often")
    it.now += timedelta(minutes=11)
    it.turn(3)
    assert ([], (YES, "Prefetched")) == (it.failures(), it.says("Ready"))
    it.outcome = lambda *_: failed("NoSpace")
    it.cluster = cluster(*map(node, ("a", "b", "c", "late")))
    it.turn(4)
    assert (NO, "NoSpace") == it.says("Ready"), "not the registry's refusal"


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"images": [{"image": "one:1"}, {"image": "No:Reference"}]}, "InvalidImage"),
        ({"from": {"workloadRef": {"kind": "Deployment", "name": "web"}}}, "WorkloadMissing"),
    ],
)
def test_a_problem_without_an_image_is_listed_too(spec: dict[str, Any], reason: str) -> None:
    assert [("", "", reason)] == settled(**spec).failures()
