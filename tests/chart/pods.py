"""Looking into rendered objects."""

from collections.abc import Iterator
from typing import Any

Object = dict[str, Any]


def workloads(objects: list[Object]) -> dict[str, Object]:
    """Pod templates' specs by component."""
    kinds = {"Deployment", "StatefulSet", "DaemonSet", "Job"}
    found = (each for each in objects if each["kind"] in kinds)
    return {each["metadata"]["labels"]["app.kubernetes.io/component"]: each["spec"]["template"] for each in found}


def containers(objects: list[Object]) -> Iterator[tuple[str, Object, Object]]:
    """Each container with its pod's spec."""
    for component, template in workloads(objects).items():
        for each in [*template["spec"].get("initContainers", []), *template["spec"]["containers"]]:
            yield f"{component}/{each['name']}", each, template["spec"]
