"""Images that their registry does not resolve: the status lists them, and they do not hold up the others."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from pantala_operator.plan.prefetch.plan import plan
from pantala_operator.plan.secrets import Absent
from pantala_operator.resources.prefetch import ImageKey, NodeCount
from tests.support.prefetch import (
    NO,
    NOW,
    READY,
    TWO,
    YES,
    World,
    cluster,
    failed,
    node,
    pending,
    prefetch,
    refused,
    resolved,
    settled,
    world,
)  # fmt: skip

MISSING = "the registry has no such tag"


def without_two(reason: str = "NotFound", **spec: Any) -> World:
    it = world(**spec)
    it.registry[TWO] = refused(reason, MISSING)
    return it


@pytest.mark.parametrize(
    ("reason", "action"),
    [("NotFound", "Check the image's name"), ("Unauthorized", "credentials for this registry in spec.pullSecrets")],
)
def test_it_is_listed_without_a_node_and_the_others_reach_all_nodes(reason: str, action: str) -> None:
    it = without_two(reason)
    it.settle()
    (named,) = msgspec.to_builtins(it.each.status)["failures"]
    assert {"reason": reason, "image": TWO} == {key: named[key] for key in named.keys() - {"message"}}
    assert named["message"].startswith(f"No node pulls it: {MISSING}. ")
    assert action in named["message"]
    assert [3, 0] == [each.ready for each in it.each.status.images]
    assert [(NO, reason), (NO, reason), (YES, reason)] == it.summary()
    assert (NodeCount(desired=3, waiting=3), "0/3") == (it.each.status.nodes, it.each.status.summary)


def test_it_is_listed_while_the_others_are_pulled_and_until_the_registry_has_it() -> None:
    it = without_two(outcome=pending)
    it.turn(4)
    assert [("", TWO, "NotFound")] == it.failures()
    assert [(NO, "NotFound"), (YES, "NotFound")] == it.summary()[:2]
    assert it.message("Ready").startswith("0 of 3 nodes have all images. ")
    it.registry[TWO] = resolved("b")
    it.now += timedelta(minutes=5)
    it.finish()
    assert [] == it.failures()


def test_it_is_not_a_nodes_failure() -> None:
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


def test_a_missing_secret_is_reported_with_it() -> None:
    answers = {ImageKey(TWO): refused("Unauthorized", "it needs credentials")}
    observed = replace(world(node("a")).observe(), secrets={"mine": Absent()}, answers=answers)
    (named,) = plan(prefetch(images=[{"image": "two:2"}], pullSecrets=["mine"]), observed, NOW).status.failures
    assert "The Secret mine does not exist in this namespace." in named.message


def test_many_of_them_do_not_hide_the_nodes_failures() -> None:
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
