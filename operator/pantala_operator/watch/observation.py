"""The observed state of the cluster. Pure: the watch, the lists and the clients fill it in."""

from collections import Counter
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final, Generic

import msgspec
import structlog

from pantala_operator.events import OperatorEvents, ResourceChanged, SecretKey, WatchStarted
from pantala_operator.plan.secrets import SecretReading, Unread
from pantala_operator.plan.targets import PeerState
from pantala_operator.ports import R, Resource
from pantala_operator.resources.api import Node, PeerResource, TaskResource, newer, parse
from pantala_operator.resources.prefetch import ImagePrefetch
from pantala_operator.resources.sources import SourcePolicy
from pantala_operator.resources.status import Obstacle
from pantala_operator.supernodes.progress import ProgressStore
from pantala_operator.supernodes.view import SupernodeOverview
from pantala_operator.watch.workloads import WorkloadLists

log = structlog.get_logger(__name__)

_WATCHED: Final[tuple[type[Resource], ...]] = (Node, PeerResource, SourcePolicy, TaskResource, ImagePrefetch)
KINDS: Final[Mapping[str, type[Resource]]] = MappingProxyType({each.plural: each for each in _WATCHED})
"""The watched kinds by their plural names, in the order in which they are listed."""


class Collection(Generic[R]):
    """All objects of one kind, by ``namespace/name``. The watch and full lists feed it at the same time."""

    def __init__(self) -> None:
        self.items: dict[str, R] = {}
        self.listed = False
        """True when a full list has succeeded since the start."""
        self._deleted: set[str] = set()

    def update(self, item: R) -> bool:
        """Store an object, unless a newer version of it is known. Returns True if it was stored."""
        former = self.items.get(item.metadata.key)
        if item.metadata.uid in self._deleted:
            return False
        if former is not None and not newer(item.metadata, former.metadata):
            return False
        self.items[item.metadata.key] = item
        return True

    def remove(self, item: R) -> bool:
        """Remove a deleted object. Returns True if it was known."""
        self._deleted.add(item.metadata.uid)
        former = self.items.get(item.metadata.key)
        if former is None or former.metadata.uid != item.metadata.uid:
            return False
        del self.items[item.metadata.key]
        return True

    def begin_list(self) -> dict[str, str]:
        """Return the known resource versions by key, before a full list is requested. Pass them to :meth:`end_list`."""
        self._deleted.clear()
        return {key: item.metadata.resource_version for key, item in self.items.items()}

    def end_list(self, before: dict[str, str], items: Iterable[R]) -> None:
        """Store a full list. A missing object is removed, unless it has changed since :meth:`begin_list`."""
        found = {item.metadata.key: item for item in items if item.metadata.uid not in self._deleted}
        for key, item in list(self.items.items()):
            if key not in found and before.get(key) == item.metadata.resource_version:
                del self.items[key]
        for item in found.values():
            self.update(item)
        self.listed = True


class Observation:
    """Everything that the operator has observed in the cluster."""

    def __init__(self, home: str = "") -> None:
        """``home``: the operator's own namespace."""
        self._collections: dict[type, Collection[Any]] = {kind: Collection() for kind in _WATCHED}
        self.tasks = self.collection(TaskResource)
        self.nodes = self.collection(Node)
        self.peers = self.collection(PeerResource)
        self.prefetches = self.collection(ImagePrefetch)
        self.sources = self.collection(SourcePolicy)
        self.workloads = WorkloadLists(home)
        self.pull_secrets: frozenset[SecretKey] = frozenset()
        """The Secrets with registry credentials that plans need."""
        self.secrets: dict[SecretKey, SecretReading] = {}
        self.supernodes = SupernodeOverview()
        self.progress = ProgressStore()
        self.cut: dict[str, Mapping[str, Obstacle]] = {}
        """The tasks and images that each supernode's statement lacks, by supernode. The loop writes it."""
        self.late: dict[str, Counter[str]] = {}
        """How many nodes are late, by the Task's or ImagePrefetch's UID and by the reason. The controllers write it."""

    def collection(self, kind: type[R]) -> Collection[R]:
        return self._collections[kind]

    @property
    def listed(self) -> bool:
        """True once full lists of all kinds have succeeded since the start."""
        return all(each.listed for each in self._collections.values())

    @property
    def complete(self) -> bool:
        """True if enough is known for a statement. Supernodes drop each task that a statement leaves out."""
        return self.listed and self.supernodes.complete and not self.supernodes.absent

    @property
    def zones(self) -> dict[str, str]:
        """The zone of each node that has a zone."""
        return {name: node.zone for name, node in self.nodes.items.items() if node.zone}

    def secret_of(self, task: TaskResource) -> SecretReading:
        """The last reading of the Secret with the Task's headers."""
        key = secret_key(task)
        return self.secrets.get(key, Unread()) if key is not None else Unread()

    def named_secrets(self) -> set[SecretKey]:
        """The Secrets that plans need: those with registry credentials, and those with the headers of Tasks."""
        return {key for task in self.tasks.items.values() if (key := secret_key(task)) is not None} | self.pull_secrets

    def cut_of(self, key: str) -> Obstacle | None:
        """Why a statement lacks the task with this UID, or the image with this key."""
        return next((cut[key] for cut in self.cut.values() if key in cut), None)

    def peer_states(self) -> dict[str, PeerState]:
        """The state of each peer, by node."""
        reports, resources = self.supernodes.peers, self.peers.items
        return {
            name: PeerState(
                connected=name in reports and reports[name].connected,
                unschedulable=name in resources and resources[name].spec.unschedulable,
            )
            for name in reports.keys() | resources.keys()
        }


def secret_key(task: TaskResource) -> SecretKey | None:
    """The key of the Secret with the Task's headers, if the Task names one."""
    named = task.spec.headers_from
    return None if named is None else (task.metadata.namespace, named.secret_ref.name)


class ResourceInbox:
    """Stores watch events in the observation, and publishes those that may change a plan. Never blocks."""

    def __init__(self, observation: Observation, events: OperatorEvents) -> None:
        self._observation = observation
        self._events = events

    def begin(self) -> None:
        self._events.publish(WatchStarted())

    def put(self, kind: str, event: str | None, body: Mapping[str, Any]) -> None:
        """Store an object. ``kind`` is the plural name. ``event`` is ``DELETED`` if the object was deleted."""
        into = KINDS[kind]
        try:
            resource = parse(body, into)
        except msgspec.ValidationError as error:
            log.warning("An object is not valid, so it is ignored.", kind=kind, error=str(error))
            return
        collection = self._observation.collection(into)
        former = collection.items.get(resource.metadata.key)
        deleted = event == "DELETED"
        changed = collection.remove(resource) if deleted else collection.update(resource)
        if changed and (deleted or not _is_heartbeat(former, resource)):
            self._events.publish(ResourceChanged(resource, deleted))


def _is_heartbeat(former: object, resource: object) -> bool:
    """True if no plan depends on the change.

    The kubelet writes the status of its Node every few seconds. The operator itself writes the status of a Peer.
    """
    match former, resource:
        case Node(), Node():
            return former.spec == resource.spec and former.metadata.labels == resource.metadata.labels
        case PeerResource(), PeerResource():
            return former.spec == resource.spec and former.metadata.uid == resource.metadata.uid
        case _:
            return False
