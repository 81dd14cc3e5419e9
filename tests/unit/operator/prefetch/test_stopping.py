"""What ends pulls ends them at once, whoever has been heard; nothing else does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pantala_operator.plan.prefetch.plan import PrefetchPlan, plan
from pantala_operator.plan.prefetch.pull import Phase, Pull
from pantala_operator.plan.prefetch.survey import Order
from tests.unit.operator.prefetch.test_plan import edited, world
from tests.unit.operator.prefetch.world import NOW, SECOND, World

READY = Pull(Phase.READY, NOW, fetched=100)


def halfway(**spec: Any) -> World:
    """Node a has the image, b and c pull it."""
    it = world(images=[{"image": "one:1"}], **spec)
    it.outcome = lambda _image, name, _: READY if name == "a" else None
    it.turn(5)
    assert {"b": 1, "c": 1} == it.active()
    return it


def unheard(it: World, *, prompt: bool = True, remembers: bool = True) -> PrefetchPlan:
    """The plan while not all nodes have spoken; one ``remembers`` the orders unless the operator just started."""
    orders = it.observe().orders if remembers else {}
    return plan(it.each, replace(it.observe(), heard=False, prompt=prompt, orders=orders), it.now)


def given(made: PrefetchPlan) -> dict[str, Order]:
    assert made.orders is not None
    (orders,) = made.orders.values()
    return dict(orders)


@pytest.mark.parametrize("remembers", [True, False], ids=["supernode started anew", "operator started anew"])
@pytest.mark.parametrize("spec", [{"suspend": True}, {"mode": "Plan"}], ids=str)
def test_an_edit_that_stops_takes_orders_out_though_not_all_are_heard(spec: dict[str, Any], remembers: bool) -> None:
    """But for those of nodes that have the image: they keep it."""
    it = halfway()
    before = given(it.plan())
    edited(it, images=[{"image": "one:1"}], **spec)
    assert {"a": (before["a"].run, before["a"].number)} == {
        name: (each.run, each.number) for name, each in given(unheard(it, remembers=remembers)).items()
    }


def test_a_deadline_takes_orders_out_though_not_all_are_heard() -> None:
    it = halfway(activeDeadlineSeconds=60)
    it.now = NOW + 60 * SECOND
    assert ["a"] == list(given(unheard(it)))


def test_nothing_else_takes_an_order_out_while_not_all_are_heard() -> None:
    it = halfway()
    assert unheard(it).orders is None
    edited(it, images=[{"image": "one:1"}])
    assert unheard(it).orders is None


def test_what_was_stopped_before_a_restart_of_the_operator_waits_for_all() -> None:
    """Nothing of it is pulled; but who has it is not known, and those shall keep it."""
    it = halfway()
    edited(it, images=[{"image": "one:1"}], suspend=True)
    it.turn(2)
    assert unheard(it, prompt=False).orders is None


def test_resuming_goes_on_where_it_was() -> None:
    it = halfway()
    edited(it, images=[{"image": "one:1"}], suspend=True)
    made = unheard(it)
    it.latest = made
    it.work()
    assert {} == it.active()
    edited(it, generation=3, images=[{"image": "one:1"}])
    it.outcome = lambda *_: READY
    it.settle()
    assert (("True", "Prefetched"), "3/3") == (it.says("Ready"), it.each.status.summary)
