"""Leases on the blobs for which the container runtimes of nodes wait. Pure.

The supernode fetches a blob while a peer waits for it, and keeps it for some time after. A waiting peer receives
pieces. When it stops waiting, it keeps its pieces for other peers until the lease ends.

The supernode fetches the blob with the credentials of any waiting peer. But a peer receives the blob only if it has a
right to it (see :mod:`pantala_protocol.rules.rights`). Such a peer is *admitted*. A peer has the rights of its clients.
It asks the supernode for each client before it sends the client a byte.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import structlog

from pantala_protocol import task_id
from pantala_protocol.rules.rights import EvidenceKind, HeldBlob, Right, Rights, Ruling, Subject, rule, standing
from pantala_protocol.sync import WantedBlob
from pantala_protocol.task_id import TaskID
from pantala_supernode.errors import ForbiddenError
from pantala_supernode.images.blob import AdmissionBasis, KeptBlob, LeasedBlob, Offer, Question, Turn
from pantala_supernode.images.sources import BlobSources
from pantala_supernode.swarm.scheduler import Managers
from pantala_supernode.tasks.copy import Copy
from pantala_supernode.tasks.task import Lease, LeaseHolder, Task

_log = structlog.get_logger(__name__)
PRIORITY = 1_000
"""The priority of blobs. It is higher than the priority of most Tasks, because a container waits for the blob."""
_UNFINISHED = 60.0
"""Seconds for which the fetch of a blob continues after the last peer stopped waiting, because runtimes retry."""
_MOST = 1024
"""The most blobs for which one peer may wait at the same time."""
_KEPT = 8192
"""The most blobs that no peer waits for. Without this limit, one hostile peer could use all memory."""


FindEvidence = Callable[[Copy, Offer, Ruling, Callable[[str], None]], None]
"""Finds evidence for a claim in the background, as :meth:`pantala_supernode.images.evidence.EvidenceFinder.find`."""


class BlobLeases:
    """All leased blobs, and the peers that wait for them.

    ``reassign`` is called with the peers whose assignments changed. ``received`` returns how many bytes of a copy this
    supernode has. A blob is kept for ``seconds`` (at least 60) after a peer last waited for it. ``clock`` returns
    monotonic seconds.
    """

    def __init__(
        self,
        leases: LeaseHolder,
        managers: Managers,
        sources: BlobSources,
        rights: Rights,
        find_evidence: FindEvidence,
        *,
        reassign: Callable[[Iterable[str]], None],
        received: Callable[[str], int],
        seconds: float,
        clock: Callable[[], float],
    ) -> None:
        self._leases = leases
        self._tasks = managers.tasks
        self._peers = managers.peers
        self._sources = sources
        self._rights = rights
        self._find_evidence = find_evidence
        self._reassign = reassign
        self._received = received
        self._seconds = max(seconds, _UNFINISHED)
        self._clock = clock
        self._demand: dict[str, Mapping[str, WantedBlob]] = {}
        self._blobs: dict[str, LeasedBlob] = {}
        self._expected = 0
        """With at most this many blobs, no search for idle blobs is due before the next :meth:`tick`."""

    def take(self, peer: str, wants: Mapping[str, WantedBlob]) -> None:
        """Replace the blobs for which a peer waits. They take effect after the first statement."""
        before = self._demand.get(peer, {})
        if wants:
            self._demand[peer] = wants
        else:
            self._demand.pop(peer, None)
        if self._tasks.revision and (before or wants):
            self._apply(peer, wants, before.keys() - wants.keys())

    def ask(self, peer: str, wanted: WantedBlob, answer: Callable[[Right | None], None]) -> Question:
        """Ask whether a client of a peer may read a blob. The question is open until :meth:`end`.

        Raises :class:`ForbiddenError` if the question is not valid.
        """
        name = task_id.of_blob(wanted.digest)
        offers = self._sources.of(peer, name, wanted)
        if not offers:
            raise ForbiddenError(f"the question about {wanted.digest} is not valid; see the log of the supernode")
        question = Question(peer, offers, answer)
        blob = self._blobs.setdefault(name, LeasedBlob(wanted.digest))
        blob.questions.append(question)
        blob.wanted_at = self._clock()
        self._fetch(name, blob)
        self._admit(name, blob)
        self._release_oldest()
        return question

    def end(self, question: Question) -> None:
        name = task_id.of_blob(question.offers[0].claim.digest)
        blob = self._blobs.get(name)
        if blob is not None and question in blob.questions:
            blob.questions.remove(question)
            blob.rest(self._clock())

    def take_holdings(self, peer: str, held: Mapping[str, tuple[str, int]]) -> None:
        """Let a peer keep its pieces of restored blobs. ``held``: the generation and the pieces that it has, by task.

        Call this before the peer's assignments are sent. A peer that has this generation was admitted before.
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
                found.append(KeptBlob(blob.digest, generation, now - blob.wanted_at if blob.idle else 0.0))
        return tuple(found)

    def restore(self, kept: Iterable[KeptBlob]) -> None:
        """Put leases on the blobs of an earlier process, for the rest of their time. Call this before serving peers.

        This does not admit a peer, and does not fetch a blob.
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
            if missing and blob.idle:
                self._release(name)
            elif missing:
                blob.restored = None

    def on_statement(self) -> None:
        for peer, wants in list(self._demand.items()):
            self._apply(peer, wants, ())

    def on_task_changed(self, name: str) -> None:
        """Admit waiting peers once pieces arrive. If the current source has failed, use another source.

        Most changes are only further pieces, which do not change the rights of waiting peers. Then no peer is checked.
        """
        blob, task = self._blobs.get(name), self._tasks.get(name)
        if blob is None or task is None:
            return
        before, blob.basis = blob.basis, AdmissionBasis.of(task)
        granted = blob.has_grown(task.copy) and self._grant_sent(task.copy, blob)
        if blob.turn is not None and self._sources.blame(task.copy, blob):
            self._fetch(name, blob)
        if granted or before != blob.basis or task.copy.failure is not None:
            self._admit(name, blob)
        if task.complete:
            self._tasks.renew(name, until=self._until(name))

    def _grant_sent(self, copy: Copy, blob: LeasedBlob) -> bool:
        """Grant the copy to the client whose credential fetched pieces. False: the client had this right before."""
        if not copy.client:
            return False
        client, now = Subject(bytes.fromhex(copy.client)), self._clock()
        former = self._rights.find(client, blob.digest, now)
        self._rights.grant(client, blob.digest, EvidenceKind.SENT, now, generation=copy.generation)
        return former is None or former.generation != copy.generation or bool(former.origin)

    def on_evidence(self, name: str) -> None:
        blob = self._blobs.get(name)
        if blob is not None:
            self._admit(name, blob)

    def tick(self) -> None:
        """Renew the leases on blobs for which peers wait, and forget disconnected peers. Call about once a second."""
        for peer in list(self._demand):
            known = self._peers.get(peer)
            if known is None or not known.connected:
                for name in self._demand.pop(peer):
                    self._end(peer, name)
        for name, blob in list(self._blobs.items()):
            task = self._tasks.get(name)
            if task is None or task.lease is None:
                del self._blobs[name]
            elif not blob.idle:
                self._tasks.renew(name, until=self._until(name))
                self._pass_turn(name, blob, task)
                self._admit(name, blob)
        self._expected = 0
        self._release_oldest()

    def release_idle(self) -> bool:
        """End the lease on the blob that has been idle for the longest time. False: no blob is idle."""
        idle = [
            (blob.wanted_at, name)
            for name, blob in self._blobs.items()
            if blob.idle and (task := self._tasks.get(name)) is not None and not task.wanted
        ]
        if not idle:
            return False
        self._release(min(idle)[1])
        return True

    def _release_oldest(self) -> None:
        """Above the limit, release a quarter of the idle blobs: unfinished ones first, then the longest idle ones.

        It takes milliseconds to find them. So until the next :meth:`tick`, only many more blobs start a further search.
        """
        if len(self._blobs) <= max(_KEPT, self._expected):
            return
        whole = {task.id for task in self._tasks if task.complete}
        idle = sorted((name in whole, blob.wanted_at, name) for name, blob in self._blobs.items() if blob.idle)
        if len(idle) > _KEPT:
            for _, _, name in idle[: len(idle) - _KEPT * 3 // 4]:
                self._release(name)
        self._expected = len(self._blobs) + _KEPT // 16

    def _release(self, name: str) -> None:
        del self._blobs[name]
        self._leases.end_lease(name, keep=True)

    def _apply(self, peer: str, wants: Mapping[str, WantedBlob], ended: Iterable[str]) -> None:
        for name in list(ended):
            self._end(peer, name)
        for name, wanted in list(wants.items())[:_MOST]:
            offers = self._sources.of(peer, name, wanted)
            if offers:
                self._want(peer, name, wanted.digest, offers)
            else:
                self._end(peer, name)
        self._release_oldest()
        self._reassign([peer])

    def _want(self, peer: str, name: str, digest: str, offers: tuple[Offer, ...]) -> None:
        blob = self._blobs.setdefault(name, LeasedBlob(digest))
        blob.waiting[peer], blob.wanted_at = offers, self._clock()
        self._fetch(name, blob)
        self._admit(name, blob)

    def _end(self, peer: str, name: str) -> None:
        self._tasks.remove_fetcher(name, peer)
        blob = self._blobs.get(name)
        if blob is None or blob.waiting.pop(peer, None) is None:
            return
        blob.rest(self._clock())
        if blob.idle:
            self._tasks.renew(name, until=self._until(name))

    # Rights

    def _admit(self, name: str, blob: LeasedBlob) -> None:
        """Admit waiting peers that have a right to the blob, and answer questions. Find evidence for other peers."""
        task = self._tasks.get(name)
        copy = task.copy if task is not None else Copy(TaskID(name))
        held = HeldBlob(copy.generation, copy.origins, whole=task is not None and task.complete)
        admitted = []
        fetchers = task.fetchers if task is not None and held.generation else blob.waiting.keys()
        for peer, offers in blob.waiting.items():
            if peer not in fetchers and self._right(copy, held, offers) is not None:
                self._tasks.add_fetcher(name, peer)
                admitted.append(peer)
        for question in list(blob.questions):
            right = self._right(copy, held, question.offers)
            if right is not None or not any(self._sources.is_usable(blob, offer) for offer in question.offers):
                question.answer(right)
                self.end(question)
        if admitted:
            self._reassign(admitted)

    def _right(self, copy: Copy, held: HeldBlob, offers: tuple[Offer, ...]) -> Right | None:
        """The right of one of the sources' clients. If no client has a right, find evidence."""
        now = self._clock()
        for _, claim in offers:
            right = standing(self._rights, claim, held, now)
            if right is not None:
                return right
        for offer in offers:
            ruling = rule(self._rights, offer.claim, held, now)
            own = not held.whole and copy.client == offer.claim.client.hex()  # further bytes will be its evidence
            if ruling is Ruling.PROVE or (ruling is Ruling.ASK and copy.length is not None and not own):
                self._find_evidence(copy, offer, ruling, self.on_evidence)
        return None

    # Sources

    def _fetch(self, name: str, blob: LeasedBlob) -> None:
        """Fetch the blob from a source that a waiting peer offers: from the current source, if it is still offered."""
        usable = [(peer, offer) for peer, offer in blob.offered() if self._sources.is_usable(blob, offer)]
        if not usable:
            return
        task, turn = self._tasks.get(name), blob.turn
        if turn is None or all(offer.source != turn.offer.source for _, offer in usable):
            if turn is not None and task is not None and not task.complete:
                blob.attempt += 1
            peer, offer = min(usable, key=lambda each: (self._sources.is_suspect(blob, each[1]), blob.turns[each[0]]))
            blob.turns[peer] += 1
            continued = task is not None and offer.source.origin in task.copy.origins
            turn = blob.turn = Turn(offer, self._clock(), self._received(name) if continued else 0)
        elif task is not None and task.lease is not None:
            if task.copy.failure is None or not task.copy.failure.final:
                return
            blob.attempt += 1  # a peer waits for the blob again, so the CDN tries again
        ordered = replace(turn.offer.source, attempt=f"blob:{blob.attempt}", priority=PRIORITY)
        self._leases.lease(name, Lease(ordered, self._until(name)))

    def _pass_turn(self, name: str, blob: LeasedBlob, task: Task) -> None:
        """If the current source is slow, give the turn to a source of another registry."""
        turn = blob.turn
        if turn is None or task.complete or not turn.is_slow(self._clock(), self._received(name)):
            return
        others = (offer for _, offer in blob.offered() if self._sources.is_usable(blob, offer))
        if any(not self._sources.is_suspect(blob, offer) and offer.registry != turn.offer.registry for offer in others):
            blob.slow.add(turn.offer.registry)
            _log.warning("a registry is slow; using another registry", task=name, slow=turn.offer.source)
            blob.turn = None
            blob.attempt += 1
            self._fetch(name, blob)

    def _until(self, name: str) -> float:
        task, blob = self._tasks.get(name), self._blobs.get(name)
        whole = task is not None and task.complete
        since = self._clock() if blob is None or not blob.idle else blob.wanted_at
        return since + (self._seconds if whole else _UNFINISHED)
