"""Images that their registry does not give: named where a user looks for failures, and in nobody else's way."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from pantala_operator.plan.headers import Absent
from pantala_operator.plan.prefetch.images import Surroundings
from pantala_operator.plan.prefetch.plan import plan
from pantala_operator.plan.prefetch.pull import Phase, Pull
from pantala_operator.plan.prefetch.survey import Observed
from pantala_operator.resources.prefetch import ImageKey, NodeCount
from tests.unit.operator.prefetch.test_plan import fits, world
from tests.unit.operator.prefetch.world import NOW, ONE, TWO, World, cluster, failed, node, prefetch, resolved

READY = Pull(Phase.READY, NOW, fetched=100)
MISSING = "the registry knows no such tag"


def without_two(reason: str = "NotFound", **spec: Any) -> World:
    it = world(**spec)
    it.registry = {ONE: resolved("a"), TWO: resolved("0", digest="", reason=reason, message=MISSING)}
    it.outcome = lambda *_: READY
    return it


@pytest.mark.parametrize(
    ("reason", "action"),
    [("NotFound", "Check the image's name"), ("Unauthorized", "credentials for this registry in spec.pullSecrets")],
)
def test_it_is_named_without_a_node_and_the_others_reach_all_nodes(reason: str, action: str) -> None:
    it = without_two(reason)
    it.settle()
    (named,) = msgspec.to_builtins(it.each.status)["failures"]
    assert {"reason": reason, "image": TWO} == {key: named[key] for key in named.keys() - {"message"}}
    assert named["message"].startswith(f"No node pulls it: {MISSING}. ")
    assert action in named["message"]
    assert [3, 0] == [each.ready for each in it.each.status.images]
    assert [("False", reason), ("False", reason), ("True", reason)] == [
        it.says(kind) for kind in ("Ready", "Reconciling", "Stalled")
    ]
    assert (NodeCount(desired=3, waiting=3), "0/3") == (it.each.status.nodes, it.each.status.summary)
    fits(it)


def test_it_is_named_while_the_others_are_pulled() -> None:
    it = without_two()
    it.outcome = lambda *_: None
    it.turn(4)
    assert [("", TWO)] == [(each.node, each.image) for each in it.each.status.failures]
    assert [("False", "NotFound"), ("True", "NotFound")] == [it.says("Ready"), it.says("Reconciling")]
    assert it.message("Ready").startswith("0 of 3 nodes have all images; ")


def test_it_is_named_no_longer_once_the_registry_has_it() -> None:
    it = without_two()
    it.settle()
    it.registry[TWO] = resolved("b")
    it.now += timedelta(minutes=5)
    it.settle()
    assert ((), ("True", "Prefetched")) == (it.each.status.failures, it.says("Ready"))


def test_it_is_no_nodes_failure() -> None:
    """It holds no wave back, and no rollout that stands failures of no node."""
    waves = [{"nodes": 1}, {"nodes": 1}]
    it = without_two(rollout={"maxFailures": 0, "parallelism": 1, "waves": waves})
    it.settle()
    assert ([3, 0], ("True", "NotFound")) == ([each.ready for each in it.each.status.images], it.says("Stalled"))


def test_a_halt_is_told_only_where_it_holds_a_node_back() -> None:
    """All nodes have begun: what is missing is the image, and not the leave to begin."""
    it = without_two(rollout={"maxFailures": 0}, retry={"limit": 0})
    it.outcome = lambda _image, name, _: failed("NoSpace") if name == "a" else READY
    it.settle()
    assert ("True", "NotFound") == it.says("Stalled")
    assert {("a", "NoSpace"), ("", "NotFound")} == {(each.node, each.reason) for each in it.each.status.failures}


def test_a_secret_that_is_missing_is_named_with_it() -> None:
    each, key = prefetch(images=[{"image": "two:2"}], pullSecrets=["mine"]), ImageKey(TWO)
    told = resolved("0", digest="", reason="Unauthorized", message="it wants credentials")
    observed = Observed(cluster(node("a")), secrets={"mine": Absent()}, resolutions={key: told}, heard=True)
    (named,) = plan(each, observed, NOW).status.failures
    assert "There is no Secret mine in the ImagePrefetch's namespace." in named.message


def test_many_of_them_do_not_hide_what_nodes_lack() -> None:
    images = [{"image": "one:1"}, *({"image": f"missing{number}:1"} for number in range(12))]
    it = world(images=images)
    it.registry |= {
        f"docker.io/library/missing{number}:1": resolved("0", digest="", reason="NotFound") for number in range(12)
    }
    it.outcome = lambda _image, name, _: failed("NoSpace") if name == "a" else READY
    it.settle()
    assert (10, True) == (len(it.each.status.failures), "a" in {each.node for each in it.each.status.failures})


def test_a_look_that_fails_takes_nothing_from_an_image_that_is_resolved() -> None:
    it = world(completionPolicy="Continuous")
    it.outcome = lambda *_: READY
    it.settle()
    it.registry[TWO] = resolved("0", digest="", reason="RateLimited", message="asked too often")
    it.now += timedelta(minutes=11)
    it.turn(3)
    assert ((), ("True", "Prefetched")) == (it.each.status.failures, it.says("Ready"))
    it.outcome = lambda *_: failed("NoSpace")
    it.cluster = cluster(*(node(name) for name in ("a", "b", "c", "late")))
    it.turn(4)
    assert ("False", "NoSpace") == it.says("Ready"), "and not what the registry said of a look"


def test_what_names_no_image_is_named_too() -> None:
    it = world(images=[{"image": "one:1"}, {"image": "No:Reference"}])
    it.settle()
    assert [("", "", "InvalidImage")] == [(each.node, each.image, each.reason) for each in it.each.status.failures]
    it = world(**{"from": {"workloadRef": {"kind": "Deployment", "name": "web"}}})
    it.around = Surroundings()
    it.settle()
    assert [("", "", "WorkloadMissing")] == [(each.node, each.image, each.reason) for each in it.each.status.failures]
    fits(it)
