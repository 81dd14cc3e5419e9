"""Blobs that nodes' container runtimes wait for: fetched by lease while anybody does, and kept a while after. Pure.

A node that waits is given work; one that does not any more keeps what it has, for the others, until the lease ends.
Which of the nodes' credentials a blob is fetched with makes no difference to its bytes, so one that is refused does
not harm who has another. But nobody gets a blob by its digest alone: what a node names must have it, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Protocol

import structlog

from pantala_protocol import image, task_id
from pantala_protocol.sync import Wanted
from pantala_supernode.errors import RequestError, SourceError
from pantala_supernode.images.accounts import OrderAccounts
from pantala_supernode.images.blobs import KeptBlob, LeasedBlob
from pantala_supernode.images.orders import StatedImages
from pantala_supernode.registry.endpoint import ImageRepository, RegistryEndpoints
from pantala_supernode.registry.permissions import RegistryPermissions
from pantala_supernode.swarm.scheduler import Managers
from pantala_supernode.tasks.copy import Copy, FileSource
from pantala_supernode.tasks.task import Lease, LeaseHolder

_log = structlog.get_logger(__name__)

PRIORITY = 1_000
"""Of blobs where fetches wait for their turn: a container waits for them."""
_UNFINISHED = 60.0
"""Seconds that a blob which is not whole is fetched on after the last one stopped waiting: runtimes try again."""
_MOST = 4096
"""Blobs that one node may wait for at once."""


class Prover(Protocol):
    """Who finds out whether an origin has a blob."""

    def ask(self, copy: Copy, origin: FileSource, tell: Callable[[str, FileSource, bool], None]) -> None:
        """Call ``tell`` with whether the origin has the content of the copy."""


class BlobLeases:
    """All of them.

    ``reassign`` is called with the peers whose assignments changed. ``unknown`` tells of a task whether nothing is here
    of it, nor can come from anywhere but its origin. ``seconds``: how long a blob is kept for those who come later, a
    minute at least; ``clock`` tells monotonic seconds.
    """

    def __init__(
        self,
        leases: LeaseHolder,
        managers: Managers,
        images: StatedImages,
        accounts: OrderAccounts,
        endpoints: RegistryEndpoints,
        permissions: RegistryPermissions,
        prover: Prover,
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
        self._said: dict[str, Mapping[str, Wanted]] = {}
        self._blobs: dict[str, LeasedBlob] = {}

    def take(self, peer: str, wants: Mapping[str, Wanted]) -> None:
        """All that a node waits for now. Heeded once there is a statement, since before it no node is told anything."""
        before = self._said.get(peer, {})
        if wants:
            self._said[peer] = wants
        else:
            self._said.pop(peer, None)
        if self._tasks.revision and (before or wants):
            self._heed(peer, wants, before.keys() - wants.keys())

    def take_holdings(self, peer: str, held: Mapping[str, tuple[str, int]]) -> None:
        """A node tells all that it has, generation and pieces by task: of what was restored it keeps that for others.

        To be called before it is told what to hold. Who does not know the generation was never given the blob.
        """
        for name, (generation, _) in held.items():
            blob = self._blobs.get(name)
            if blob is not None and blob.restored and blob.restored == generation:
                self._tasks.add_keeper(name, peer)

    def take_inventory(self, peer: str, held: Iterable[str]) -> None:
        """A node told all that it has: it keeps nothing else for others."""
        lost = self._tasks.kept_by(peer) - {*held, *self._said.get(peer, {})}
        for task in lost:
            self._tasks.remove_keeper(task, peer)
        if lost:
            self._reassign([peer])

    def kept(self) -> tuple[KeptBlob, ...]:
        """The blobs that are here, whole, to be restored by the next process."""
        now, found = self._clock(), []
        for name, blob in self._blobs.items():
            task = self._tasks.get(name)
            generation = task.copy.generation if task is not None and task.complete else blob.restored
            if task is not None and generation:
                found.append(KeptBlob(blob.digest, generation, 0.0 if blob.waiting else now - blob.wanted_at))
        return tuple(found)

    def restore(self, kept: Iterable[KeptBlob]) -> None:
        """Keep what an earlier process did, as long as it would have; to be called before anybody is served.

        Nobody is let in by that: who wants such a blob shows that what it names has it. Nothing is fetched for it.
        """
        for one in kept:
            idle = max(one.idle, 0.0)
            if idle < self._seconds:
                name, wanted_at = task_id.of_blob(one.digest), self._clock() - idle
                self._blobs[name] = LeasedBlob(one.digest, wanted_at=wanted_at, restored=one.generation)
                lease = Lease(None, wanted_at + self._seconds)
                self._leases.lease(name, lease)

    def recovered(self) -> None:
        """The volume was read: what is not there any more is not kept."""
        for name, blob in list(self._blobs.items()):
            task = self._tasks.get(name)
            gone = task is not None and blob.restored and blob.restored != task.copy.generation
            if gone and not blob.waiting:
                del self._blobs[name]
                self._leases.end_lease(name, keep=True)
            elif gone:
                blob.restored = ""

    def restated(self) -> None:
        """There is another statement: orders may have come or gone."""
        for peer, wants in list(self._said.items()):
            self._heed(peer, wants, ())

    def changed(self, name: str) -> None:
        """There is news of a task: one that cannot be had from where it is fetched is fetched from elsewhere."""
        blob, task = self._blobs.get(name), self._tasks.get(name)
        if blob is None or task is None:
            return
        failure = task.copy.failure
        if failure is not None and failure.final and blob.source is not None and blob.source not in blob.refused:
            blob.refused.add(blob.source)
            self._fetch(name, blob)
            return
        if blob.first is not None and task.copy.cached:
            self._permit(blob, blob.first)
            blob.first = None
        self._admit(name, blob)
        if task.complete:
            self._tasks.renew(name, until=self._until(name))

    def proved(self, name: str, origin: FileSource, has_it: bool) -> None:
        """Whether an origin has the blob."""
        blob = self._blobs.get(name)
        if blob is None:
            return
        if has_it:
            self._permit(blob, origin)
        else:
            blob.refused.add(origin)
        self._admit(name, blob)

    def tick(self) -> None:
        """Let leases last while somebody waits, and forget who is not there; to be called about once a second."""
        for peer in list(self._said):
            known = self._peers.get(peer)
            if known is None or not known.connected:
                self.take(peer, {})
        for name, blob in list(self._blobs.items()):
            task = self._tasks.get(name)
            if task is None or task.lease is None:
                del self._blobs[name]
            elif blob.waiting:
                self._tasks.renew(name, until=self._until(name))

    def spare(self) -> bool:
        """Room is needed: give up the blob that nobody has waited for longest. Tells whether there was one."""
        idle = [
            (blob.wanted_at, name)
            for name, blob in self._blobs.items()
            if not blob.waiting and (task := self._tasks.get(name)) is not None and not task.wanted
        ]
        if not idle:
            return False
        _, name = min(idle)
        del self._blobs[name]
        self._leases.end_lease(name, keep=True)
        return True

    def _heed(self, peer: str, wants: Mapping[str, Wanted], ended: Iterable[str]) -> None:
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
        """Let those in who have a right to the blob; of the others, see whether what they name has it."""
        task = self._tasks.get(name)
        if task is None or not (task.copy.cached or task.complete):
            return
        admitted, empty = [], not task.copy.cached
        for peer, origins in blob.waiting.items():
            offered = [origin for origin in origins if origin not in blob.refused]
            if peer in task.fetchers or not offered:
                continue
            if empty or any(self._permissions.allows(*_right(blob, origin), self._clock()) for origin in offered):
                self._tasks.add_fetcher(name, peer)
                admitted.append(peer)
            elif blob.first not in offered:
                self._prover.ask(task.copy, offered[0], self.proved)
        if admitted:
            self._reassign(admitted)

    def _permit(self, blob: LeasedBlob, origin: FileSource) -> None:
        self._permissions.allow(*_right(blob, origin), self._clock())

    def _end(self, peer: str, name: str) -> None:
        self._tasks.remove_fetcher(name, peer)
        blob = self._blobs.get(name)
        if blob is None or blob.waiting.pop(peer, None) is None:
            return
        blob.wanted_at = self._clock()
        if not blob.waiting:
            self._tasks.renew(name, until=self._until(name))
            blob.refused.clear()  # who comes back later tries anew

    def _fetch(self, name: str, blob: LeasedBlob) -> None:
        """Have it fetched from where it can be had, if there is such a place: the one in use, if nothing is wrong."""
        offered = [source for source in blob.sources() if source not in blob.refused]
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
            blob.attempt += 1  # who comes back tries anew
        until = self._until(name)
        ordered = replace(source, attempt=f"blob:{blob.attempt}", priority=PRIORITY)
        self._leases.lease(name, Lease(ordered, until))

    def _until(self, name: str) -> float:
        task, blob = self._tasks.get(name), self._blobs.get(name)
        whole = task is not None and task.complete
        since = self._clock() if blob is None or blob.waiting else blob.wanted_at
        return since + (self._seconds if whole else _UNFINISHED)

    def _sources(self, peer: str, name: str, wanted: Wanted) -> tuple[FileSource, ...]:
        """What a node may have a blob fetched from; none: it asks for what cannot be, and goes to the registry."""
        try:
            _check(name, wanted)
            repository = ImageRepository(wanted.registry, wanted.repository)
            url = self._endpoints.blob(repository, wanted.digest)
            if not wanted.order:
                return (_source(url, wanted.credential, wanted.digest),)
            order, reference = self._images.ordered(peer, wanted.order, str(repository))
            accounts = self._accounts.of(order, reference)
            return tuple(_source(url, account.authorization, wanted.digest) for account in accounts)
        except (ValueError, RequestError, SourceError) as error:
            _log.warning("a node waits for a blob that cannot be fetched for it", peer=peer, task=name, why=str(error))
            return ()


def _source(url: str, authorization: str, digest: str) -> FileSource:
    return FileSource(url, {"Authorization": authorization} if authorization else {}, digest)


def _right(blob: LeasedBlob, origin: FileSource) -> tuple[str, str]:
    return f"{origin.url} {blob.digest}", origin.headers.get("Authorization", "")


def _check(name: str, wanted: Wanted) -> None:
    """Raises :class:`ValueError`."""
    if task_id.of_blob(wanted.digest) != name:
        raise ValueError("the task is not that of the digest")
    image.check_registry(wanted.registry)
    image.check_repository(wanted.repository)
