"""Everything the operator knows of the world. Pure: it is told, it asks nobody."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, TypeVar

from pantala_operator.plan.headers import SecretReading, Unread
from pantala_operator.plan.target import PeerState
from pantala_operator.resources.api import Node, PeerResource, TaskResource, newer
from pantala_operator.resources.prefetch import ImagePrefetch
from pantala_operator.supernodes.view import SupernodeOverview
from pantala_operator.watch.workloads import WorkloadLists

R = TypeVar("R", TaskResource, Node, PeerResource, ImagePrefetch)
SecretKey = tuple[str, str]
"""Namespace and name."""


class Collection(Generic[R]):
    """All objects of one kind, by ``namespace/name``, fed by watching and by full lists at once."""

    def __init__(self) -> None:
        """Begin with nothing known."""
        self.items: dict[str, R] = {}
        self.listed = False
        """Whether a full list has succeeded since the start."""
        self._deleted: set[str] = set()

    def see(self, item: R) -> bool:
        """Take a newer reading of an object. Returns whether something changed."""
        former = self.items.get(item.metadata.key)
        if item.metadata.uid in self._deleted:
            return False
        if former is not None and not newer(item.metadata, former.metadata):
            return False
        self.items[item.metadata.key] = item
        return True

    def lose(self, item: R) -> bool:
        """An object is gone. Returns whether it was known."""
        self._deleted.add(item.metadata.uid)
        former = self.items.get(item.metadata.key)
        if former is None or former.metadata.uid != item.metadata.uid:
            return False
        del self.items[item.metadata.key]
        return True

    def begin_list(self) -> dict[str, str]:
        """Remember what is known before a full list is asked for; pass it to :meth:`end_list`."""
        self._deleted.clear()
        return {key: item.metadata.resource_version for key, item in self.items.items()}

    def end_list(self, before: dict[str, str], items: Iterable[R]) -> list[R]:
        """Take a full list. What was known before and is not in it is gone; what was seen meanwhile stays."""
        found = {item.metadata.key: item for item in items if item.metadata.uid not in self._deleted}
        gone = [
            item
            for key, item in self.items.items()
            if key not in found and before.get(key) == item.metadata.resource_version
        ]
        for item in gone:
            del self.items[item.metadata.key]
        for item in found.values():
            self.see(item)
        self.listed = True
        return gone


class Observation:
    """The whole."""

    def __init__(self) -> None:
        """Begin with nothing known."""
        self.tasks: Collection[TaskResource] = Collection()
        self.nodes: Collection[Node] = Collection()
        self.peers: Collection[PeerResource] = Collection()
        self.prefetches: Collection[ImagePrefetch] = Collection()
        self.around = WorkloadLists()
        self.pull_secrets: frozenset[SecretKey] = frozenset()
        """The Secrets with registries' credentials that are to be read."""
        self.secrets: dict[SecretKey, SecretReading] = {}
        self.supernodes = SupernodeOverview()

    @property
    def listed(self) -> bool:
        """Whether full lists of all kinds have succeeded since the start."""
        return self.tasks.listed and self.nodes.listed and self.peers.listed and self.prefetches.listed

    @property
    def complete(self) -> bool:
        """Whether enough is known to tell the supernodes what is wanted, and so what is not."""
        return self.listed and self.supernodes.heard and not self.supernodes.absent

    def secret_of(self, task: TaskResource) -> SecretReading:
        """The Secret with the Task's headers, as it was read last."""
        key = secret_key(task)
        return self.secrets.get(key, Unread()) if key is not None else Unread()

    def peer_states(self) -> dict[str, PeerState]:
        """All peers there are, by node."""
        reports, resources = self.supernodes.peers, self.peers.items
        return {
            name: PeerState(
                connected=name in reports and reports[name].connected,
                unschedulable=name in resources and resources[name].spec.unschedulable,
            )
            for name in reports.keys() | resources.keys()
        }


def secret_key(task: TaskResource) -> SecretKey | None:
    """Which Secret has the Task's headers, if any."""
    named = task.spec.headers_from
    return None if named is None else (task.metadata.namespace, named.secret_ref.name)
