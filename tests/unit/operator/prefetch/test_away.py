"""A node that goes down while it pulls is not counted; the status names it, and the run does not wait for it."""

from dataclasses import replace

import pytest

from pantala_operator.plan.targets import PeerState
from pantala_operator.resources.api import Taint
from pantala_operator.resources.prefetch import NodeCount
from tests.support.prefetch import (
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
    pending,
    settled,
    world,
)  # fmt: skip


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
    assert "Check the node and its peer" in status.failures[0].message
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
