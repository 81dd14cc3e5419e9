"""Only a suspension, mode Plan or a deadline cancels running pulls before all nodes have reported."""

from dataclasses import replace
from typing import Any

import pytest

from pantala_operator.plan.prefetch.inputs import GivenOrder
from pantala_operator.plan.prefetch.plan import PrefetchPlan, plan
from pantala_operator.resources.prefetch import PrefetchStatus
from tests.support.prefetch import NO, NOW, ONLY_ONE, READY, SECOND, World, world


def halfway(**spec: Any) -> World:
    """Node a has the image, b and c pull it."""
    it = world(images=ONLY_ONE, outcome=lambda _image, name, _: READY if name == "a" else None, **spec)
    it.turn(5)
    assert {"b": 1, "c": 1} == it.active()
    return it


def early(it: World, *, may_cancel: bool = True, remembers: bool = True) -> PrefetchPlan[PrefetchStatus]:
    """The plan before all nodes have reported; a process that just started does not remember its orders."""
    orders = it.orders if remembers else {}
    return plan(it.each, replace(it.observe(), reported=False, may_cancel=may_cancel, orders=orders), it.now)


def given(made: PrefetchPlan[PrefetchStatus]) -> dict[str, GivenOrder]:
    assert made.orders.orders is not None
    (orders,) = made.orders.orders.values()
    return dict(orders)


@pytest.mark.parametrize("remembers", [True, False], ids=["supernode restarted", "operator restarted"])
@pytest.mark.parametrize("spec", [{"suspend": True}, {"mode": "Plan"}], ids=str)
def test_an_edit_that_stops_cancels_pulls_before_all_nodes_report(spec: dict[str, Any], remembers: bool) -> None:
    """Nodes that have the image keep it."""
    it = halfway()
    before = given(it.plan())["a"].order
    it.edit(images=ONLY_ONE, **spec)
    assert {"a": before} == {name: each.order for name, each in given(early(it, remembers=remembers)).items()}


def test_a_deadline_cancels_pulls_before_all_nodes_report() -> None:
    it = halfway(activeDeadlineSeconds=60)
    it.now = NOW + 60 * SECOND
    assert ["a"] == list(given(early(it)))


def test_nothing_else_cancels_pulls_before_all_nodes_report() -> None:
    it = halfway()
    assert early(it).orders.orders is None
    it.edit(images=ONLY_ONE)
    assert early(it).orders.orders is None


def test_after_a_restart_an_older_suspension_waits_for_all_nodes() -> None:
    """A silent node may have the image and must keep it."""
    it = halfway()
    it.edit(images=ONLY_ONE, suspend=True)
    it.turn(2)
    assert early(it, may_cancel=False).orders.orders is None


@pytest.mark.parametrize("reported", [True, False])
def test_suspending_keeps_images_and_resuming_continues_the_pulls(reported: bool) -> None:
    it = halfway()
    it.edit(images=ONLY_ONE, suspend=True)
    if reported:
        it.turn()
        assert [(NO, "Suspended")] * 3 == it.summary()
    else:
        it.latest = early(it)
        it.work()
    assert ({}, [{"a"}]) == (it.active(), it.ordered())
    it.edit(generation=3, images=ONLY_ONE)
    it.finish()
    assert "3/3" == it.each.status.summary
