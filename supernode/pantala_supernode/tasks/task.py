"""One task: the Task resources and clients that want it, and the CDN's copy of it. Pure."""

from dataclasses import dataclass, field, replace
from typing import Protocol

from pantala_protocol.geometry import SMALL_FILE
from pantala_protocol.statement import CDNStatus, Failure, WantedTask
from pantala_protocol.sync import Assignment, Delivery
from pantala_protocol.task_id import TaskID
from pantala_supernode.tasks.copy import Copy, FetchOrder, FileSource


@dataclass(frozen=True, slots=True)
class Lease:
    """Keeps a task wanted for a while, on behalf of clients without a Task resource."""

    source: FileSource | None
    """Where to fetch the file. ``None``: an existing copy is kept, and nothing is fetched."""
    until: float = field(compare=False)
    """The end of the lease in monotonic seconds. Two leases that differ only in this field are equal."""

    @property
    def attempt(self) -> str:
        return self.source.attempt if self.source is not None else ""


class LeaseHolder(Protocol):
    """Takes and ends leases on tasks."""

    def lease(self, task_id: str, lease: Lease) -> None:
        """Keep a task wanted until the lease ends. Raises :class:`ValueError` for an invalid task ID."""

    def end_lease(self, task_id: str, *, keep: bool = False) -> None:
        """End the task's lease. If no Task resource wants the task, its copy is kept as a cache only with ``keep``."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the quotas of a namespace refuse a file, and how much quota the file needs."""

    failure: Failure
    size: int
    """The bytes that the copy would have on the volume."""
    reads: int = 0
    """The bytes that must be read from the origin."""


@dataclass(slots=True)
class Task:
    """One file to distribute."""

    id: TaskID
    copy: Copy
    """The state of the supernode's copy."""
    wanted: dict[str, WantedTask] = field(default_factory=dict)
    """What each Task resource wants, by UID."""
    refused: dict[str, WantedTask] = field(default_factory=dict)
    """The Task resources of namespaces whose quotas refuse the file, by UID. They are ignored."""
    refusals: dict[str, Refusal] = field(default_factory=dict)
    """Why the file is refused, by namespace."""
    lease: Lease | None = None
    fetchers: set[str] = field(default_factory=set)
    """Peers and clients that fetch the task because of the lease."""
    keepers: set[str] = field(default_factory=set)
    """Peers that keep their pieces of the task until the lease ends. They may also be ``fetchers``."""
    peers: frozenset[str] = frozenset()
    """Peers to which a Task resource assigns the task."""
    _nodes: dict[str, frozenset[str]] = field(default_factory=dict)
    _fetching: frozenset[str] = frozenset()
    namespaces: frozenset[str] = frozenset()
    """The namespaces that want the task and are not refused."""
    priority: int = 0
    """The highest priority of the Task resources that want the task. Any thread may read it."""

    @property
    def tenants(self) -> frozenset[str]:
        """The namespaces of the Task resources that want the task, and its lease's tenant. Any thread may use this."""
        leased = self.leased
        return self.namespaces if leased is None else self.namespaces | leased.tenants

    @property
    def complete(self) -> bool:
        return self.copy.status is CDNStatus.SUCCESS

    def is_whole(self, have: int) -> bool:
        """True if the pieces ``have`` are the whole file."""
        return self.complete and have & self.copy.cached == self.copy.cached

    @property
    def possible(self) -> int:
        """The pieces that a peer can have, as a bit mask: all, or while the length is unknown, the cached pieces."""
        return self.copy.cached if self.copy.total is None else (1 << self.copy.total) - 1

    def size(self, piece: int) -> int:
        """The size of a cached piece in bytes. Only the last piece may be shorter."""
        size, length = self.copy.piece_size, self.copy.length
        return size if length is None else min(size, length - piece * size)

    @property
    def is_small(self) -> bool:
        """True if the file is one cached piece, and so small that the work for it contains its bytes."""
        copy = self.copy
        return copy.length is not None and 0 < copy.length <= min(SMALL_FILE, copy.piece_size) and copy.cached == 1

    @property
    def leased(self) -> FileSource | None:
        """The file that clients without a Task resource want. ``None``: only Task resources want the file."""
        lease = self.lease
        return lease.source if lease is not None else None

    @property
    def suspended(self) -> bool:
        """True if every Task resource that wants the task is suspended, and no lease has a source."""
        return self.leased is None and all(wanted.suspended for wanted in self.wanted.values())

    @property
    def source(self) -> FileSource | None:
        for wanted in self.wanted.values():
            return FileSource(wanted.url, wanted.headers, wanted.digest or None)
        return self.leased

    def order(self) -> FetchOrder:
        """The order for the CDN. It combines the attempts of all Task resources, and has the highest retry limit."""
        source = self.source
        if source is None:
            raise ValueError(f"no Task resource and no lease wants task {self.id}")
        attempts = sorted(f"{wanted.uid}:{wanted.attempt}" for wanted in self.wanted.values())
        limits = [wanted.retry_limit for wanted in self.wanted.values()]
        if self.lease is not None:
            attempts.append(f"lease:{self.lease.attempt}")
            limits.append(None)
        priority = self.priority if self.leased is None else max(self.priority, self.leased.priority)
        return FetchOrder(
            self.id,
            replace(source, attempt=" ".join(attempts), priority=priority, tenants=self.tenants),
            retry_limit=None if None in limits else max(limit for limit in limits if limit is not None),
            claims=frozenset(self.wanted),
            stale_will_do=not self.wanted,
        )

    @property
    def recipients(self) -> frozenset[str]:
        return self.peers | self.keepers

    def want(self, wanted: WantedTask, nodes: frozenset[str]) -> None:
        """Add or change a Task resource. ``nodes``: its ``peers`` as a set, which tasks may share."""
        (self.refused if wanted.namespace in self.refusals else self.wanted)[wanted.uid] = wanted
        self._nodes[wanted.uid] = nodes
        self._index()

    def unwant(self, uid: str) -> frozenset[str]:
        """Remove a Task resource. Returns its peers."""
        wanted = self.wanted.pop(uid, None) or self.refused.pop(uid)
        if all(each.namespace != wanted.namespace for each in self.refused.values()):
            self.refusals.pop(wanted.namespace, None)
        nodes = self._nodes.pop(uid)
        self._index()
        return nodes

    def find(self, uid: str) -> WantedTask | None:
        """What a Task resource wants, even if its namespace is refused."""
        return self.wanted.get(uid) or self.refused.get(uid)

    def refuse(self, namespace: str, refusal: Refusal) -> None:
        """Ignore the Task resources of a namespace, because of its quotas."""
        self.refusals[namespace] = refusal
        self._move(self.wanted, self.refused, namespace)

    def admit(self, namespace: str) -> None:
        """Undo :meth:`refuse`."""
        del self.refusals[namespace]
        self._move(self.refused, self.wanted, namespace)

    def _move(self, source: dict[str, WantedTask], target: dict[str, WantedTask], namespace: str) -> None:
        for uid in [uid for uid, wanted in source.items() if wanted.namespace == namespace]:
            target[uid] = source.pop(uid)
        self._index()

    def nodes(self, uid: str) -> frozenset[str]:
        """The peers to which one Task resource assigns the task."""
        return self._nodes.get(uid, frozenset())

    def runs_on(self, peer: str) -> bool:
        return peer in self._fetching or peer in self.fetchers

    def _index(self) -> None:
        self.priority = max((wanted.priority for wanted in self.wanted.values()), default=0)
        self.namespaces = frozenset(wanted.namespace for wanted in self.wanted.values())
        self.peers = _union([self._nodes[uid] for uid in self.wanted])
        self._fetching = _union([self._nodes[uid] for uid, wanted in self.wanted.items() if not wanted.suspended])

    def assignment(self, peer: str) -> Assignment:
        return Assignment(
            task_id=self.id,
            generation=self.copy.generation,
            piece_size=self.copy.piece_size,
            length=self.copy.length,
            digest=self.copy.digest,
            deliveries=tuple(
                Delivery(wanted.uid, wanted.path, wanted.trace)
                for wanted in sorted(self.wanted.values(), key=lambda wanted: wanted.uid)
                if wanted.path and peer in self._nodes[wanted.uid]
            ),
            priority=self.priority,
        )


def _union(sets: list[frozenset[str]]) -> frozenset[str]:
    """The union of the sets. A single set is not copied, so that tasks with the same nodes share it."""
    return sets[0] if len(sets) == 1 else frozenset().union(*sets)
