"""Nodes that go while they pull: not counted, named, and waited for by nobody."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from pantala_operator.plan.prefetch.pull import Phase, Pull
from pantala_operator.plan.target import PeerState
from pantala_operator.resources.api import Taint
from pantala_operator.resources.prefetch import NodeCount
from tests.unit.operator.prefetch.test_plan import fits, world
from tests.unit.operator.prefetch.world import NOW, SECOND, World, cluster, node

READY = Pull(Phase.READY, NOW, fetched=100)
UNREACHABLE = Taint("node.kubernetes.io/unreachable", "NoExecute")


def lose(it: World, name: str, *taints: Taint) -> None:
    """Its peer is not connected any more; the cluster says why, or does not know yet."""
    nodes = {**it.cluster.nodes, name: node(name, *taints)}
    it.cluster = replace(it.cluster, nodes=nodes, peers={**it.cluster.peers, name: PeerState()})


@pytest.mark.parametrize("taints", [(), (UNREACHABLE,)], ids=["at once", "when the cluster has noticed"])
def test_a_node_that_goes_down_while_it_pulls(taints: tuple[Taint, ...]) -> None:
    it = world(images=[{"image": "one:1"}])
    it.outcome = lambda _image, name, _: None if name == "c" else READY
    it.turn(6)
    assert NodeCount(desired=3, ready=2, active=1) == it.each.status.nodes
    lose(it, "c", *taints)
    it.turn()
    status = it.each.status
    assert (NodeCount(desired=2, ready=2, unavailable=1), "2/2") == (status.nodes, status.summary)
    assert [("c", "", "NodeUnavailable")] == [(each.node, each.image, each.reason) for each in status.failures]
    assert "Check the node and its peer" in status.failures[0].message
    assert ("True", "Prefetched") == it.says("Ready")
    assert it.now - NOW < 30 * SECOND, "nothing had to time out"
    fits(it)


def test_a_node_that_has_all_and_goes_down_is_not_counted_ready() -> None:
    it = world(completionPolicy="Continuous")
    it.outcome = lambda *_: READY
    it.settle()
    lose(it, "b")
    it.turn()
    assert NodeCount(desired=2, ready=2, unavailable=1) == it.each.status.nodes
    assert it.latest is not None
    assert it.latest.orders is not None
    assert all("b" in given for given in it.latest.orders.values()), "what it has is kept for its return"


def test_a_node_that_failed_and_goes_down_is_no_failure_that_halts() -> None:
    it = world(images=[{"image": "one:1"}], rollout={"parallelism": 1, "maxFailures": 0}, retry={"limit": 0})
    it.outcome = lambda *_: Pull(Phase.FAILED, NOW, reason="NoSpace", message="no space left")
    it.turn(4)
    (name,) = {each.node for each in it.each.status.failures}
    assert ("True", "TooManyFailures") == it.says("Stalled")
    lose(it, name)
    it.outcome = lambda *_: READY
    it.settle()
    assert ("True", "Prefetched") == it.says("Ready")
    assert NodeCount(desired=2, ready=2, unavailable=1) == it.each.status.nodes


def test_a_node_that_is_removed_while_it_pulls_is_forgotten() -> None:
    it = world(images=[{"image": "one:1"}], rollout={"parallelism": 1})
    it.outcome = lambda *_: None
    it.turn(3)
    (name,) = it.active()
    left = [node(each) for each in ("a", "b", "c") if each != name]
    it.cluster = cluster(*left)
    made = it.turn()
    assert name not in {each for given in (made.orders or {}).values() for each in given}
    it.outcome = lambda *_: READY
    it.settle()
    assert (NodeCount(desired=2, ready=2), ()) == (it.each.status.nodes, it.each.status.failures)
    assert ("True", "Prefetched") == it.says("Ready")


def test_an_image_that_is_removed_while_it_is_pulled_is_cut() -> None:
    it = world(images=[{"image": "one:1"}, {"image": "two:2"}])
    it.outcome = lambda image, *_: READY if "two" in image else None
    it.turn(3)
    assert {"a": 1, "b": 1, "c": 1} == it.active()
    edited = msgspec.structs.replace(it.each.metadata, generation=2)
    wanted = type(it.each.spec.images[0])("two:2")
    spec = msgspec.structs.replace(it.each.spec, images=(wanted,))
    it.each = msgspec.structs.replace(it.each, metadata=edited, spec=spec)
    it.settle()
    assert ({}, ("True", "Prefetched")) == (it.active(), it.says("Ready"))
    assert ["docker.io/library/two:2"] == [each.image for each in it.each.status.images]
    assert 1 == len(it.children)
