"""The chart's rendered objects."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Object = dict[str, Any]
CHART = Path(__file__).resolve().parents[2] / "charts" / "pantala"


class Rendered(list[Object]):
    """All objects of one rendering, hooks included."""

    def of_kind(self, kind: str) -> dict[str, Object]:
        return {each["metadata"]["name"]: each for each in self if each["kind"] == kind}

    def one(self, kind: str) -> Object:
        (found,) = self.of_kind(kind).values()
        return found

    @property
    def pods(self) -> dict[str, Object]:
        kinds = {"Deployment", "StatefulSet", "DaemonSet", "Job"}
        found = (each for each in self if each["kind"] in kinds)
        return {each["metadata"]["labels"]["app.kubernetes.io/component"]: each["spec"]["template"] for each in found}

    def containers(self) -> Iterator[tuple[str, Object, Object]]:
        """Each container as ``component/name``, with the spec of its pod."""
        for component, template in self.pods.items():
            for each in [*template["spec"].get("initContainers", []), *template["spec"]["containers"]]:
                yield f"{component}/{each['name']}", each, template["spec"]

    def container(self, name: str) -> Object:
        return {each: found for each, found, _ in self.containers()}[name]

    def flags(self, name: str) -> dict[str, str]:
        """The flags of a container by ``component/name``."""
        found = self.container(name)
        words = [*found.get("command", ()), *found.get("args", ())]
        return dict(word.removeprefix("--").partition("=")[::2] for word in words if word.startswith("--"))


Render = Callable[..., Rendered]
Helm = Callable[..., subprocess.CompletedProcess[str]]
