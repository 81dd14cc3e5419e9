"""Which client takes which piece from whom. Pure: chance and time are passed in.

The policy was found by simulation and measured: small windows, seeds spread, the least loaded of a sample and then
*its* rarest piece. In order of weight: a client has few pieces given and not reported; a provider has few booked;
while a cached piece is with nobody, the supernode gives only such pieces; who had more than its share of them waits;
who is given some by the supernode is given others by peers at the same time, so that its link is full.
Where clients are in two zones or more, a piece enters each zone once and spreads inside. The client on the supernode's
own machine takes all from there, which loads no link, and before others. To them the two are as one, with one link, and
the client there gives what it can in the supernode's place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from pantala_supernode.swarm.download import DfgetTaskManager
from pantala_supernode.swarm.limits import SchedulingPolicy, Uplink
from pantala_supernode.swarm.peer import PeerManager, SwarmPeer
from pantala_supernode.swarm.pool import Chance, Pool
from pantala_supernode.swarm.progress import ProgressManager
from pantala_supernode.swarm.reputation import Reputation
from pantala_supernode.swarm.task_progress import SUPERNODE, PeerProgress, TaskProgress, Zone
from pantala_supernode.tasks.manager import TaskManager


@dataclass(frozen=True, slots=True)
class PieceChoice:
    """One decision."""

    piece: int
    provider: str


@dataclass(frozen=True, slots=True)
class Urgent:
    """A piece that somebody waits for at the client."""

    piece: int
    stalled: bool = False
    """Whoever was to give it did not: the supernode shall."""


@dataclass(slots=True)
class _Asker:
    """Who wants a piece, and what it may have."""

    name: str
    progress: PeerProgress
    missing: int
    """Cached pieces that it neither has nor was given."""
    zone: Zone | None
    """Its zone, if there are borders to be heeded."""
    task_id: str
    now: float
    urgent: bool = False
    """It may have more than its share, for somebody waits."""

    @property
    def imports(self) -> int:
        """What it may take from outside of its zone."""
        return self.missing if self.zone is None else self.missing & ~self.zone.present


class SchedulerManager:
    """Decides over the swarms of a :class:`ProgressManager`, and books what it decides.

    ``lookup`` finds a peer by name.
    """

    def __init__(
        self,
        progress: ProgressManager,
        *,
        policy: SchedulingPolicy,
        chance: Chance,
        lookup: Callable[[str], SwarmPeer | None],
    ) -> None:
        self.policy = policy
        self.uplink = Uplink(policy.bandwidth, least=policy.supernode_uploads, most=policy.most_supernode_uploads)
        self._progress = progress
        self._chance = chance
        self._lookup = lookup
        self._reputation = Reputation(policy.tolerance)
        self._blacklist: dict[tuple[str, str], float] = {}
        self._zones_aged_at = 0.0

    def schedule(
        self,
        task_id: str,
        client: str,
        *,
        room: int,
        now: float,
        provider: str | None = None,
        urgent: Urgent | None = None,
    ) -> list[PieceChoice]:
        """Give ``client`` up to ``room`` pieces of a task, and book them. Empty: nothing to be had now.

        The first one is the ``urgent`` one, if it can be had; else from ``provider``, if that is given and can serve.
        """
        task = self._progress.tasks[task_id]
        decided: list[PieceChoice] = []
        while len(decided) < room:
            asker = self._asker(task_id, task, client, now)
            info = self._urgent(task, asker, urgent) if urgent is not None and not decided else None
            if info is None and provider is not None and not decided and not asker.progress.local:
                info = self._from(task, provider, asker)
            info = info or self._choose(task, asker)
            if info is None:
                break
            self._progress.give(task_id, client, info.piece, info.provider)
            decided.append(info)
        return decided

    def room(self, client: str) -> int:
        """How many pieces more a client may be given, over all its tasks."""
        peer = self._lookup(client)
        window = self.policy.window
        if peer is not None and peer.downloads is not None:
            window = max(1, min(peer.downloads, self.policy.most_window))
        return max(0, window - self._progress.outstanding(client))

    def next_in_line(self, task_id: str, waiting: Pool, *, now: float, provider: str | None = None) -> list[str]:
        """Of the clients that wait for a piece of a task, a sample: those with the fewest pieces first.

        Only those that can take something from ``provider``, if that is given.
        """
        task = self._progress.tasks[task_id]
        if provider is not None and not self._has_room(provider, now):
            return []
        names = [name for name in waiting.draw(self._chance, self.policy.sample) if name in task.clients]
        if provider is not None:
            names = [name for name in names if self._offer(task, provider, self._asker(task_id, task, name, now))]
        return sorted(
            names, key=lambda name: 0 if task.clients[name].local else 1 + task.clients[name].have.bit_count()
        )

    def served(self, client: str, providers: Iterable[str], *, now: float) -> None:
        """A client took a right piece from each of ``providers``."""
        for provider in providers:
            if provider != SUPERNODE:
                self._reputation.served(provider, client, now=now)

    def failed(self, client: str, provider: str, *, corrupt: bool = False, now: float) -> None:
        """A provider failed a client: keep them apart for a while, and the provider from all if it fails many."""
        if provider != SUPERNODE:
            self._blacklist[client, provider] = now + self.policy.blacklist_seconds
            self._reputation.failed(provider, client, corrupt=corrupt, now=now)

    def forget(self, peer: str) -> None:
        """A peer is gone: nothing is held against it any more."""
        self._reputation.forget(peer)
        self._blacklist = {pair: until for pair, until in self._blacklist.items() if peer not in pair}

    def expire(self, now: float) -> None:
        """Take note that time goes by: drop what no longer holds, look how fast pieces move."""
        self._blacklist = {pair: until for pair, until in self._blacklist.items() if until > now}
        self._reputation.expire(now)
        self.uplink.observe(self._progress.peer_bytes, self._progress.peer_bookings, now=now)
        if now - self._zones_aged_at >= self.policy.zone_patience:
            self._zones_aged_at = now
            for task in self._progress.tasks.values():
                for zone in task.zones.values():
                    zone.age()

    def _asker(self, task_id: str, task: TaskProgress, name: str, now: float) -> _Asker:
        progress = task.clients[name]
        missing = task.cached & ~(progress.have | progress.given_mask)
        return _Asker(name, progress, missing, task.zone_of(progress), task_id, now)

    def _choose(self, task: TaskProgress, asker: _Asker) -> PieceChoice | None:
        if not asker.missing:
            return None
        if asker.progress.local:
            return PieceChoice(self._any(task.rarest_of(asker.missing)), SUPERNODE)  # nobody gets less by that
        if self._seeds(task, asker) and not self._leans(task, asker) and (info := self._from_here(task, asker)):
            return info
        if asker.zone is None:
            return self._from_peers(task, task.free, asker) or self._from_here(task, asker)
        return (
            self._from_peers(task, asker.zone.free, asker)
            or self._from_peers(task, task.free, asker)
            or self._from_here(task, asker)
            or self._from_anybody(task, asker.zone, asker)
        )

    def _leans(self, task: TaskProgress, asker: _Asker) -> bool:
        """Half of what a client waits for comes from this machine: its link has room for what peers can give."""
        return 2 * sum(map(task.is_near, asker.progress.given.values())) >= self.policy.window

    def _urgent(self, task: TaskProgress, asker: _Asker, urgent: Urgent) -> PieceChoice | None:
        """The piece that is waited for. One on its way to another client comes from there in a moment, as always."""
        only = replace(asker, missing=asker.missing & 1 << urgent.piece, urgent=True)
        if not only.missing:
            return None
        if urgent.stalled and self._has_room(SUPERNODE, asker.now):
            return PieceChoice(urgent.piece, SUPERNODE)
        return self._choose(task, only)

    def _from_here(self, task: TaskProgress, asker: _Asker) -> PieceChoice | None:
        """A piece from this machine: from the client on it, or else from the supernode."""
        name = self._progress.neighbour
        return (self._from(task, name, asker) if name in task.clients else None) or self._from(task, SUPERNODE, asker)

    def _from_peers(self, task: TaskProgress, free: Pool, asker: _Asker) -> PieceChoice | None:
        """A piece from the least loaded of a sample of those who can give one."""
        for _ in range(self.policy.draws if len(free) > self.policy.sample else 1):
            provider = self._least_loaded(task, free.draw(self._chance, self.policy.sample), asker)
            if provider is not None:
                return self._from(task, provider, asker)
        return None

    def _least_loaded(self, task: TaskProgress, drawn: list[str], asker: _Asker) -> str | None:
        best, least = None, 0
        for name in drawn:
            service = self._progress.service.get(name)
            booked = service.booked if service is not None else 0
            if best is not None and booked >= least:
                continue
            if not self._offer(task, name, asker):
                continue
            if booked < self._slots(name, asker.now):
                best, least = name, booked
                if not booked:
                    break
            elif booked:
                self._progress.note_full(asker.task_id, name)
        return best

    def _from(self, task: TaskProgress, provider: str, asker: _Asker) -> PieceChoice | None:
        """The rarest piece that a provider can give, if it can give one."""
        pieces = self._offer(task, provider, asker) if self._has_room(provider, asker.now) else 0
        return PieceChoice(self._any(task.rarest_of(pieces)), provider) if pieces else None

    def _from_anybody(self, task: TaskProgress, zone: Zone, asker: _Asker) -> PieceChoice | None:
        """A piece that is in the zone but with nobody who can serve it: for one who has nothing else to do."""
        if asker.progress.given:
            return None
        stuck = asker.missing & ~zone.expected
        for name in zone.holders.draw(self._chance, self.policy.sample):
            if self._may_ask(asker, name) and self._slots(name, asker.now):
                stuck &= ~task.clients[name].served
        free = _Asker(asker.name, asker.progress, stuck, None, asker.task_id, asker.now)
        return self._from_peers(task, task.free, free) or self._from_here(task, free)

    def _offer(self, task: TaskProgress, provider: str, asker: _Asker) -> int:
        """The pieces that a provider, if it has room, may give to one who asks."""
        if provider == SUPERNODE:
            return asker.missing if asker.progress.local else self._here(task, asker, provider)
        other = task.clients.get(provider)
        if other is None:
            return 0
        if other.local:
            return self._here(task, asker, provider)
        pieces = other.served & (asker.missing if asker.progress.zone == other.zone else asker.imports)
        return pieces if pieces and self._may_ask(asker, provider) else 0

    def _here(self, task: TaskProgress, asker: _Asker, provider: str) -> int:
        """The pieces that the supernode, or the client on its machine, may give to one elsewhere.

        The supernode does not give what the client beside it is about to have, and what that has only to one who has
        nothing to do: through one link two are no faster.
        """
        pieces, name = self._seeds(task, asker) or self._assistance(task, asker), self._progress.neighbour
        near = task.clients.get(name)
        if near is None or not self._may_ask(asker, name) or not self._slots(name, asker.now):
            return pieces if provider == SUPERNODE else 0
        if provider == name:
            return pieces & near.served
        return pieces & ~(self._coming(task, near) | (near.served if asker.progress.given else 0))

    def _coming(self, task: TaskProgress, near: PeerProgress) -> int:
        """What the client on this machine has in a moment: all that is cached, if it keeps up."""
        lacks = task.cached & ~near.have
        return lacks if near.given and lacks.bit_count() <= 2 * self.policy.window else near.given_mask

    def _seeds(self, task: TaskProgress, asker: _Asker) -> int:
        """Pieces that are with nobody yet, for one who had no more than its share of such."""
        seeds = task.seeds & asker.missing
        return seeds if seeds and (asker.urgent or not task.had_its_share(asker.progress)) else 0

    def _assistance(self, task: TaskProgress, asker: _Asker) -> int:
        """Pieces that the supernode gives once more, since no peer can.

        While the file arrives, one that is on its way to a peer is not given: that peer can serve it in a moment, and
        nobody is done before the last piece came. Else a slow origin would make the supernode send all copies.
        """
        if task.seeds:
            return 0
        return asker.imports & task.verified if task.arriving else asker.imports

    def _may_ask(self, asker: _Asker, provider: str) -> bool:
        return provider != asker.name and self._blacklist.get((asker.name, provider), 0.0) <= asker.now

    def _has_room(self, provider: str, now: float) -> bool:
        service = self._progress.service.get(provider)
        return (service.booked if service is not None else 0) < self._slots(provider, now)

    def _slots(self, provider: str, now: float) -> int:
        """How many pieces may be booked at a provider."""
        if provider == SUPERNODE:
            return self.uplink.slots
        peer = self._lookup(provider)
        if peer is None or not peer.can_serve:
            return 0
        slots = self.policy.peer_uploads
        if peer.upload_slots is not None:
            slots = min(peer.upload_slots, self.policy.most_peer_uploads)
        return self._reputation.allows(provider, slots, now=now)

    def _any(self, pieces: int) -> int:
        """A random member of a set that is not empty."""
        shift = self._chance.randrange(pieces.bit_length())
        upper = pieces >> shift
        if upper:
            return shift + (upper & -upper).bit_length() - 1
        return (pieces & -pieces).bit_length() - 1


@dataclass(frozen=True, slots=True)
class Managers:
    """Five of the six: those that are pure."""

    tasks: TaskManager
    dfget_tasks: DfgetTaskManager
    peers: PeerManager
    progress: ProgressManager
    scheduler: SchedulerManager
