"""Decides at which path a Task publishes its file, and which paths belong to its namespace. Pure.

Each namespace owns the folder with its name below the folder of published files. So no namespace can take a path of
another namespace. An administrator may allow a namespace further folders.
"""

from collections.abc import Collection
from dataclasses import dataclass

from pantala_operator.resources.api import TaskResource
from pantala_operator.resources.status import Obstacle
from pantala_protocol.reasons import Reason
from pantala_protocol.rules import names
from pantala_protocol.rules.names import SharedPath


@dataclass(frozen=True, slots=True)
class PublishedPaths:
    """Which paths the Tasks of each namespace may have."""

    root: str
    """The folder of published files on nodes."""
    shared: Collection[SharedPath] = ()

    def of(self, task: TaskResource) -> str | Obstacle:
        """The path of the file on nodes, relative to the root. Empty if the file stays on the supernode."""
        if not task.spec.to_peers:
            return ""
        namespace = task.metadata.namespace
        wanted_path = task.spec.path or f"{namespace}/{task.metadata.name}"
        relative = wanted_path.removeprefix(self.root + "/") if wanted_path.startswith("/") else wanted_path
        if relative.startswith("/"):
            what = f"The path {wanted_path} is not below the folder of published files, {self.root}"
            return Obstacle.of(Reason.PATH_OUTSIDE_ROOT, what)
        fault = names.fault(relative)
        if fault is not None:
            return Obstacle.of(Reason.PATH_OUTSIDE_ROOT, f"The path {wanted_path!r} {fault}")
        if not self._may_use(namespace, relative):
            what = f"The path {relative} is not below the folder of the namespace, {namespace}/"
            return Obstacle.of(Reason.PATH_OUTSIDE_NAMESPACE, what)
        return relative

    def _may_use(self, namespace: str, path: str) -> bool:
        shared = [each.prefix for each in self.shared if each.namespace == namespace]
        return path.startswith(f"{namespace}/") or any(f"{path}/".startswith(f"{prefix}/") for prefix in shared)
