"""Leases on the blobs for which the container runtimes of nodes wait. Pure.

The supernode fetches a blob while a peer waits for it, and keeps it for some time after. A waiting peer receives
pieces. When it stops waiting, it keeps its pieces for other peers until the lease ends.

The supernode fetches the blob with the credentials of any waiting peer. But each peer receives it only if it may read
a repository that has the blob: to know the digest is not enough. Such a peer is *admitted*.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import structlog

from pantala_protocol import image, task_id
from pantala_protocol.sync import WantedBlob
from pantala_supernode.errors import RequestError, SourceError
from pantala_supernode.images.orders import OrderAccounts, StatedImages
from pantala_supernode.images.proofs import BlobProver
from pantala_supernode.registry.endpoint import ImageRepository, RegistryEndpoints
from pantala_supernode.registry.permissions import RegistryPermissions
from pantala_supernode.swarm.scheduler import Managers
from pantala_supernode.tasks.copy import FileSource
from pantala_supernode.tasks.shares import IMAGES
from pantala_supernode.tasks.task import Lease, LeaseHolder

_log = structlog.get_logger(__name__)
PRIORITY = 1_000
"""The priority of fetches of blobs. It is above that of most Tasks, because a container waits for a blob."""
_UNFINISHED = 60.0
"""Seconds for which the fetch of a blob goes on after the last peer stopped waiting, because runtimes retry."""
_MOST = 4096
"""The most blobs for which one peer may wait at the same time."""


class KeptBlob(NamedTuple):
    """The record of a kept blob, with which the next process can keep it as long as this one would. Without secrets."""

    digest: str
    generation: str
    """The generation of the copy. Only admitted peers know it."""
    idle: float
    """Seconds since a peer last waited for the blob."""


@dataclass(slots=True)
class LeasedBlob:
    """One blob: the peers that wait for it, and the sources from which it may come."""

    digest: str
    waiting: dict[str, tuple[FileSource, ...]] = field(default_factory=dict)
    """The sources that each waiting peer may read."""
    source: FileSource | None = None
    """The source from which the blob is being fetched."""
    refused: set[FileSource] = field(default_factory=set)
    """Sources that do not have the blob or denied access."""
    first: FileSource | None = None
    """The source, if the whole copy comes from it. Its pieces prove that it has the blob, so no check is needed."""
    attempt: int = 1
    wanted_at: float = 0.0
    restored: str | None = None
    """The generation of the copy, if an earlier process kept it."""

    def offered(self) -> Iterator[FileSource]:
        return (source for sources in self.waiting.values() for source in sources if source not in self.refused)

    def right(self, source: FileSource) -> tuple[str, str]:
        """The URL with the digest, and the ``Authorization`` header, as for :meth:`RegistryPermissions.allows`."""
        return f"{source.url} {self.digest}", source.headers.get("Authorization", "")


def blob_source(url: str, authorization: str, digest: str, *, pod_identity: bool = False) -> FileSource:
    """The source of a blob at the registry's ``url``. An empty ``authorization`` means an anonymous request."""
    headers = {"Authorization": authorization} if authorization else {}
    return FileSource(url, headers, digest, pod_identity=pod_identity, tenants=frozenset({IMAGES}))


def check_wanted(name: str, wanted: WantedBlob) -> None:
    """Raise :class:`ValueError` if a wanted blob has invalid names, or a digest that does not match the task ID."""
    if task_id.of_blob(wanted.digest) != name:
        raise ValueError("the blob's task ID does not match its digest")
    image.check_registry(wanted.registry)
    image.check_repository(wanted.repository)


class BlobLeases:
    """All leased blobs, and the peers that wait for them.

    ``reassign`` is called with the peers whose assignments changed. ``unknown`` returns true if only the origin can
    have the content of a task. A blob is kept for ``seconds`` (at least 60) after a peer last waited for it. ``clock``
    returns monotonic seconds.
    """

    def __init__(
        self,
        leases: LeaseHolder,
        managers: Managers,
        images: StatedImages,
        accounts: OrderAccounts,
        endpoints: RegistryEndpoints,
        permissions: RegistryPermissions,
        prover: BlobProver,
        *,
        reassign: Callable[[Iterable[str]], None],
        unknown: Callable[[str], bool],
        seconds: float,
        clock: Callable[[], float],
    ) -> None:
        self._leases = leases
        self._tasks = managers.tasks
        self._peers = managers.peers
        self._images = images
        self._accounts = accounts
        self._endpoints = endpoints
        self._permissions = permissions
        self._prover = prover
        self._reassign = reassign
        self._unknown = unknown
        self._seconds = max(seconds, _UNFINISHED)
        self._clock = clock
        self._demand: dict[str, Mapping[str, WantedBlob]] = {}
        self._blobs: dict[str, LeasedBlob] = {}

    def take(self, peer: str, wants: Mapping[str, WantedBlob]) -> None:
        """Replace the blobs for which a peer waits. Before the first statement, they are only remembered."""
        before = self._demand.get(peer, {})
        if wants:
            self._demand[peer] = wants
        else:
            self._demand.pop(peer, None)
        if self._tasks.revision and (before or wants):
            self._apply(peer, wants, before.keys() - wants.keys())

    def take_holdings(self, peer: str, held: Mapping[str, tuple[str, int]]) -> None:
        """Let a peer keep its pieces of restored blobs. ``held``: the generation and the pieces that it has, by task.

        Call this before the peer's assignments are sent. A peer with another generation was not admitted before.
        """
        for name, (generation, _) in held.items():
            blob = self._blobs.get(name)
            if blob is not None and blob.restored and blob.restored == generation:
                self._tasks.add_keeper(name, peer)

    def take_inventory(self, peer: str, held: Iterable[str]) -> None:
        lost = self._tasks.kept_by(peer) - {*held, *self._demand.get(peer, {})}
        for task in lost:
            self._tasks.remove_keeper(task, peer)
        if lost:
            self._reassign([peer])

    def kept(self) -> tuple[KeptBlob, ...]:
        """The complete blobs, for :meth:`restore` in the next process."""
        now, found = self._clock(), []
        for name, blob in self._blobs.items():
            task = self._tasks.get(name)
            generation = task.copy.generation if task is not None and task.complete else blob.restored
            if task is not None and generation:
                found.append(KeptBlob(blob.digest, generation, 0.0 if blob.waiting else now - blob.wanted_at))
        return tuple(found)

    def restore(self, kept: Iterable[KeptBlob]) -> None:
        """Put leases on the blobs of an earlier process, until their time is over. Call this before serving peers.

        It does not admit a peer or fetch anything.
        """
        for blob in kept:
            idle = max(blob.idle, 0.0)
            if idle < self._seconds:
                name, wanted_at = task_id.of_blob(blob.digest), self._clock() - idle
                self._blobs[name] = LeasedBlob(blob.digest, wanted_at=wanted_at, restored=blob.generation)
                self._leases.lease(name, Lease(None, wanted_at + self._seconds))

    def on_volume_read(self) -> None:
        """Forget the restored blobs that the volume does not have."""
        for name, blob in list(self._blobs.items()):
            task = self._tasks.get(name)
            missing = task is not None and blob.restored and blob.restored != task.copy.generation
            if missing and not blob.waiting:
                self._release(name)
            elif missing:
                blob.restored = None

    def on_statement(self) -> None:
        for peer, wants in list(self._demand.items()):
            self._apply(peer, wants, ())

    def on_task_changed(self, name: str) -> None:
        """Admit waiting peers once pieces arrive. If the current source failed, use another one."""
        blob, task = self._blobs.get(name), self._tasks.get(name)
        if blob is None or task is None:
            return
        failure = task.copy.failure
        if failure is not None and failure.final and blob.source is not None and blob.source not in blob.refused:
            blob.refused.add(blob.source)
            self._fetch(name, blob)
            return
        if blob.first is not None and task.copy.cached:
            self._permissions.allow(*blob.right(blob.first))
            blob.first = None
        self._admit(name, blob)
        if task.complete:
            self._tasks.renew(name, until=self._until(name))

    def on_proof(self, name: str, origin: FileSource, has_it: bool) -> None:
        blob = self._blobs.get(name)
        if blob is None:
            return
        if has_it:
            self._permissions.allow(*blob.right(origin))
        else:
            blob.refused.add(origin)
        self._admit(name, blob)

    def tick(self) -> None:
        """Renew the leases on blobs for which peers wait, and forget disconnected peers. Call about once a second."""
        for peer in list(self._demand):
            known = self._peers.get(peer)
            if known is None or not known.connected:
                self.take(peer, {})
        for name, blob in list(self._blobs.items()):
            task = self._tasks.get(name)
            if task is None or task.lease is None:
                del self._blobs[name]
            elif blob.waiting:
                self._tasks.renew(name, until=self._until(name))

    def release_idle(self) -> bool:
        """End the lease on the blob for which peers have not waited for the longest time. True if there was one."""
        idle = [
            (blob.wanted_at, name)
            for name, blob in self._blobs.items()
            if not blob.waiting and (task := self._tasks.get(name)) is not None and not task.wanted
        ]
        if not idle:
            return False
        self._release(min(idle)[1])
        return True

    def _release(self, name: str) -> None:
        del self._blobs[name]
        self._leases.end_lease(name, keep=True)

    def _apply(self, peer: str, wants: Mapping[str, WantedBlob], ended: Iterable[str]) -> None:
        for name in list(ended):
            self._end(peer, name)
        for name, wanted in list(wants.items())[:_MOST]:
            sources = self._sources(peer, name, wanted)
            if sources:
                self._want(peer, name, wanted.digest, sources)
            else:
                self._end(peer, name)
        self._reassign([peer])

    def _want(self, peer: str, name: str, digest: str, sources: tuple[FileSource, ...]) -> None:
        blob = self._blobs.setdefault(name, LeasedBlob(digest))
        blob.waiting[peer], blob.wanted_at = sources, self._clock()
        self._fetch(name, blob)
        self._admit(name, blob)

    def _admit(self, name: str, blob: LeasedBlob) -> None:
        """Admit the waiting peers that are known to have the right to the blob. Start checks for the others."""
        task = self._tasks.get(name)
        if task is None or not (task.copy.cached or task.complete):
            return
        admitted, empty = [], not task.copy.cached
        for peer, origins in blob.waiting.items():
            offered = [origin for origin in origins if origin not in blob.refused]
            if peer in task.fetchers or not offered:
                continue
            if empty or any(self._permissions.allows(*blob.right(origin)) for origin in offered):
                self._tasks.add_fetcher(name, peer)
                admitted.append(peer)
            elif blob.first not in offered:
                self._prover.ask(task.copy, offered[0], self.on_proof)
        if admitted:
            self._reassign(admitted)

    def _end(self, peer: str, name: str) -> None:
        self._tasks.remove_fetcher(name, peer)
        blob = self._blobs.get(name)
        if blob is None or blob.waiting.pop(peer, None) is None:
            return
        blob.wanted_at = self._clock()
        if not blob.waiting:
            self._tasks.renew(name, until=self._until(name))
            blob.refused.clear()  # if a peer waits again later, all sources are tried again

    def _fetch(self, name: str, blob: LeasedBlob) -> None:
        """Fetch the blob from a source of a waiting peer: the current one, if a waiting peer still names it."""
        offered = list(blob.offered())
        if not offered:
            return
        task = self._tasks.get(name)
        source = blob.source if blob.source is not None and blob.source in offered else offered[0]
        if source != blob.source:
            if blob.source is not None and task is not None and not task.complete:
                blob.attempt += 1
            ended = task is None if blob.source is None else blob.source in blob.refused
            blob.first = source if ended and self._unknown(name) else None
            blob.source = source
        elif task is not None and task.lease is not None:
            if task.copy.failure is None or not task.copy.failure.final:
                return
            blob.attempt += 1  # a peer waits for it again, so the CDN tries again
        ordered = replace(source, attempt=f"blob:{blob.attempt}", priority=PRIORITY)
        self._leases.lease(name, Lease(ordered, self._until(name)))

    def _until(self, name: str) -> float:
        task, blob = self._tasks.get(name), self._blobs.get(name)
        whole = task is not None and task.complete
        since = self._clock() if blob is None or blob.waiting else blob.wanted_at
        return since + (self._seconds if whole else _UNFINISHED)

    def _sources(self, peer: str, name: str, wanted: WantedBlob) -> tuple[FileSource, ...]:
        """The sources from which a peer may read a blob. Empty if the peer's request is not valid, which is logged."""
        try:
            check_wanted(name, wanted)
            repository = ImageRepository(wanted.registry, wanted.repository)
            url = self._endpoints.blob(repository, wanted.digest)
            if not wanted.order:
                return (blob_source(url, wanted.credential, wanted.digest),)
            order, reference = self._images.ordered(peer, wanted.order, str(repository))
            accounts = self._accounts.of(order, reference)
            return tuple(
                blob_source(url, account.authorization, wanted.digest, pod_identity=account.pod_identity)
                for account in accounts
            )
        except (ValueError, RequestError, SourceError) as error:
            _log.warning("cannot fetch a blob; the peer asks the registry", peer=peer, task=name, error=str(error))
            return ()
