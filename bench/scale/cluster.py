"""An API server in memory, with many Tasks and nodes. All other code is the operator's own."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from pantala_operator.ports import R, Resource, ResourceStatus
from pantala_operator.resources.api import Metadata, Node, PeerResource, TaskResource, TaskSource, TaskSpec
from pantala_operator.resources.status import Notice
from pantala_operator.watch.kinds import ServedKinds
from pantala_operator.watch.observation import ResourceInbox

_CREATED = datetime(2026, 1, 1, tzinfo=UTC)


class ScriptedCluster:
    """The part of a :class:`pantala_operator.ports.ClusterAPI` that an operator needs for Tasks with files."""

    def __init__(self, tasks: int, nodes: int, url: str) -> None:
        """``url`` is the prefix of each Task's own URL."""
        self._version = 0
        named = [node_name(number) for number in range(nodes)]
        self.objects: dict[type, dict[str, Any]] = {
            Node: {name: Node(self._metadata(name)) for name in named},
            PeerResource: {name: PeerResource(self._metadata(name)) for name in named},
            TaskResource: {},
        }
        for number in range(tasks):
            task = TaskResource(self._metadata(f"task-{number:05}", "bench"), TaskSpec(TaskSource(f"{url}?{number}")))
            self.objects[TaskResource][task.metadata.key] = task
        self.writes = 0

    @property
    def tasks(self) -> list[TaskResource]:
        return list(self.objects[TaskResource].values())

    async def watch(self, inbox: ResourceInbox, kinds: ServedKinds) -> None:
        """Report no events, because only the operator changes objects."""
        await kinds.served()
        inbox.begin()
        await asyncio.Event().wait()

    async def close(self) -> None: ...

    async def missing_kinds(self) -> list[str]:
        return []

    async def list_all(self, kind: type[R]) -> list[R]:
        return list(self.objects.get(kind, {}).values())

    async def read(self, resource: R) -> R:
        found: R = self.objects[type(resource)][resource.metadata.key]
        return found

    async def apply(self, kind: type[R], body: Mapping[str, Any]) -> R:
        return self._store(msgspec.convert(body, kind))

    async def apply_status(self, resource: R, status: ResourceStatus) -> R:
        await asyncio.sleep(0)
        return self._store(msgspec.structs.replace(resource, status=status))

    async def delete(self, resource: Resource) -> None:
        del self.objects[type(resource)][resource.metadata.key]

    async def create_event(self, about: Resource, notice: Notice, now: datetime) -> None: ...

    def _metadata(self, name: str, namespace: str = "") -> Metadata:
        self._version += 1
        uid = f"00000000-0000-4000-8000-{self._version:012}"
        return Metadata(name, namespace, uid, str(self._version), 1, _CREATED)

    def _store(self, resource: R) -> R:
        self._version += 1
        self.writes += 1
        metadata = msgspec.structs.replace(resource.metadata, resource_version=str(self._version))
        stored = msgspec.structs.replace(resource, metadata=metadata)
        self.objects[type(resource)][metadata.key] = stored
        return stored


def node_name(number: int) -> str:
    return f"worker-{number:04}.cluster.example"
