"""What keeps Pantala running while a cluster is drained or short of room: disruption budgets and priorities."""

import pytest

from tests.chart.rendered import Render

COMPONENTS = {"operator": "Deployment", "supernode": "StatefulSet"}


@pytest.mark.parametrize("component", COMPONENTS)
def test_f16_a_drain_takes_one_pod_of_a_component_at_a_time(render: Render, component: str) -> None:
    objects = render()
    budgets = objects.of_kind("PodDisruptionBudget").values()
    (budget,) = (b for b in budgets if b["metadata"]["labels"]["app.kubernetes.io/component"] == component)
    workload = objects.one(COMPONENTS[component])
    assert 1 == budget["spec"]["maxUnavailable"]
    assert workload["spec"]["selector"]["matchLabels"] == budget["spec"]["selector"]["matchLabels"]


def test_each_pod_has_a_priority_class(render: Render) -> None:
    found = {name: pod["spec"].get("priorityClassName") for name, pod in render().pods.items()}
    assert {
        "operator": "system-cluster-critical",
        "supernode": "system-cluster-critical",
        "peer": "system-node-critical",
        "cleanup": "system-node-critical",
        "uninstall": "system-cluster-critical",
        "growth": "system-cluster-critical",
    } == found


def test_priority_classes_may_be_empty(render: Render) -> None:
    objects = render("operator.priorityClassName=", "supernode.priorityClassName=", "peer.priorityClassName=")
    assert {None} == {pod["spec"].get("priorityClassName") for pod in objects.pods.values()}
