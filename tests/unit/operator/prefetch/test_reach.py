"""Which nodes are reached, and what is said where none is."""

from __future__ import annotations

from pantala_operator.plan.prefetch.reach import Pod, reach
from pantala_operator.plan.target import Targets
from tests.unit.operator.prefetch.world import cluster, node, prefetch

WEB = {"podSelector": {"matchLabels": {"app": "web"}}}


def test_a_node_is_reached_while_it_runs_such_a_pod() -> None:
    pods = (Pod("a", {"app": "web"}), Pod("b", {"app": "other"}), Pod("gone", {"app": "web"}))
    found = reach(prefetch(target=WEB), cluster(node("a"), node("b"), pods=pods), frozenset())
    assert Targets(("a",), frozenset({"a"})) == found


def test_where_no_such_pod_runs_it_is_said_and_where_they_were_looked_for() -> None:
    found = reach(prefetch(target=WEB), cluster(node("a"), pods=(Pod("a", {"app": "other"}),)), frozenset({"a"}))
    assert Targets(why_none="No pod that runs in ns matches spec.target.podSelector") == found
