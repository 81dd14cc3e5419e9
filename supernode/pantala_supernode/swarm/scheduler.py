"""Decides which peer takes which piece from which provider. Pure: chance and time are passed in.

The rules were found by simulation and by measurement. The most important rules, in order:

- Each peer has few unfinished pieces, and each provider sends few pieces at once.
- While some pieces are only on the supernode, it gives only those. A peer that has had more than its share waits.
- Otherwise a peer takes the rarest piece of the least loaded provider in a random sample.
- A peer takes pieces from the supernode and from other peers at the same time, so that its link is full.
- If peers are in two or more zones, a piece enters each zone once, and the peers of the zone copy it from each other.
- The peer on the supernode's machine (the *local peer*) takes all pieces from the supernode first, without a network.
  Both send to other peers over one link. If the local peer has a piece, it sends the piece instead of the supernode.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from pantala_supernode.swarm.download import DfgetTaskManager
from pantala_supernode.swarm.limits import SchedulingPolicy, Uplink
from pantala_supernode.swarm.peer import PeerManager, SwarmPeer
from pantala_supernode.swarm.places import Places
from pantala_supernode.swarm.pool import Chance, Pool
from pantala_supernode.swarm.progress import ProgressManager
from pantala_supernode.swarm.reputation import Reputation
from pantala_supernode.swarm.task_progress import SUPERNODE, PeerProgress, TaskProgress, Zone
from pantala_supernode.tasks.manager import TaskManager


@dataclass(frozen=True, slots=True)
class PieceChoice:
    """A decision: a peer takes this piece from this provider."""

    piece: int
    provider: str


@dataclass(frozen=True, slots=True)
class Urgent:
    """A piece that a container on the peer's node waits for."""

    piece: int
    stalled: bool = False
    """True if the piece did not arrive from its former provider, so that the supernode must send it."""


@dataclass(slots=True)
class _Demand:
    """What one peer needs of one task now."""

    peer: str
    progress: PeerProgress
    missing: int
    """The cached pieces that the peer neither has nor is fetching, as a bit mask."""
    zone: Zone | None
    """The peer's zone. ``None``: pieces may come from any zone."""
    task_id: str
    now: float
    urgent: bool = False
    """True if a container waits for the pieces, so that the peer may get more than its share."""
    ahead: int = 0
    """How many more pieces a provider may have booked, because the peer requests work before it fetches the pieces."""

    @property
    def imports(self) -> int:
        """The missing pieces that the peer may take from outside its zone, as a bit mask."""
        return self.missing if self.zone is None else self.missing & ~self.zone.present


class SchedulerManager:
    """Makes the decisions for all swarms, and records them in ``progress``. ``lookup`` finds a peer by name."""

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
        self.places = Places(progress, policy)
        self._progress = progress
        self._chance = chance
        self._lookup = lookup
        self._reputation = Reputation(policy.tolerance)
        self._blacklist: dict[tuple[str, str], float] = {}
        self._zones_aged_at = 0.0

    def schedule(
        self,
        task_id: str,
        peer: str,
        *,
        room: int,
        now: float,
        provider: str | None = None,
        urgent: Urgent | None = None,
    ) -> list[PieceChoice]:
        """Choose up to ``room`` pieces of a task for a peer, and their providers. Empty: no piece is possible now.

        If possible, the first piece is the ``urgent`` piece, or else a piece from ``provider``.
        """
        task = self._progress.tasks[task_id]
        decided: list[PieceChoice] = []
        demand = self._demand(task_id, task, peer, now, self._ahead(peer))
        while len(decided) < room:
            choice = self._urgent(task, demand, urgent) if urgent is not None and not decided else None
            if choice is None and provider is not None and not decided and not demand.progress.local:
                choice = self._from(task, provider, demand)
            if (choice := choice or self._choose(task, demand)) is None:
                break
            self.places.give(task_id, peer, choice.piece, choice.provider, now=now)
            demand.missing &= ~(1 << choice.piece)
            decided.append(choice)
        return decided

    def room(self, peer: str, *, urgent: bool = False) -> int:
        """How many more pieces a peer may be given. ``urgent``: a reader waits for these pieces."""
        more = self._ahead(peer) + (self.policy.urgent if urgent else 0)
        return max(0, self._window(peer) + more - self._progress.outstanding(peer))

    def _window(self, peer: str) -> int:
        """How many pieces a peer fetches at once."""
        downloads = known.downloads if (known := self._lookup(peer)) is not None else None
        return self.policy.window if downloads is None else max(1, min(downloads, self.policy.most_window))

    def next_in_line(self, task_id: str, waiting: Pool, *, now: float, provider: str | None = None) -> list[str]:
        """A random sample of the ``waiting`` peers of a task. Peers with the fewest pieces come first.

        With ``provider``, only peers that can take a piece from this provider.
        """
        task = self._progress.tasks[task_id]
        if provider is not None and not self._has_room(provider, now):
            return []
        names = [name for name in waiting.draw(self._chance, self.policy.sample) if name in task.peers]
        if provider is not None:
            names = [name for name in names if self._offer(task, provider, self._demand(task_id, task, name, now))]
        return sorted(names, key=lambda name: 0 if task.peers[name].local else 1 + task.peers[name].have.bit_count())

    def served(self, peer: str, providers: Iterable[str], *, now: float) -> None:
        for provider in providers:
            if provider != SUPERNODE:
                self._reputation.served(provider, peer, now=now)

    def failed(self, peer: str, provider: str, *, corrupt: bool = False, refused: bool = False, now: float) -> None:
        """Record that a peer did not receive a piece from a provider. For a while, the peer gets no piece from there.

        A provider that gets more requests than it has slots may refuse a request. This does not harm its reputation.
        """
        if provider == SUPERNODE:
            return
        if refused and self._booked(provider):
            self._blacklist[peer, provider] = now + self.policy.busy_seconds
        else:
            self._blacklist[peer, provider] = now + self.policy.blacklist_seconds
            self._reputation.failed(provider, peer, corrupt=corrupt, now=now)

    def forget(self, peer: str) -> None:
        self._reputation.forget(peer)
        self.places.forget(peer)
        self._blacklist = {pair: until for pair, until in self._blacklist.items() if peer not in pair}

    def expire(self, now: float) -> None:
        """Forget old failures, and measure how fast pieces move. Call about once a second."""
        self._blacklist = {pair: until for pair, until in self._blacklist.items() if until > now}
        self._reputation.expire(now)
        self.uplink.observe(self._progress.peer_bytes, self._progress.peer_bookings, now=now)
        if now - self._zones_aged_at >= self.policy.zone_patience:
            self._zones_aged_at = now
            for task in self._progress.tasks.values():
                for zone in task.zones.values():
                    zone.age()

    def _demand(self, task_id: str, task: TaskProgress, peer: str, now: float, ahead: int = 0) -> _Demand:
        progress = task.peers[peer]
        missing = task.copy.cached & ~(progress.have | progress.given_mask)
        return _Demand(peer, progress, missing, task.zone_of(progress), task_id, now, ahead=ahead)

    def _choose(self, task: TaskProgress, demand: _Demand) -> PieceChoice | None:
        if not demand.missing:
            return None
        if demand.progress.local:  # this uses no link, so all other peers lose nothing
            return PieceChoice(self._any(task.rarest_of(demand.missing)), SUPERNODE)
        if self._seeds(task, demand) and not self._leans(task, demand) and (choice := self._from_here(task, demand)):
            return choice
        if demand.zone is None:
            return self._from_peers(task, task.free, demand) or self._from_here(task, demand)
        return (
            self._from_peers(task, demand.zone.free, demand)
            or self._from_peers(task, task.free, demand)
            or self._from_here(task, demand)
            or self._from_any(task, demand.zone, demand)
        )

    def _leans(self, task: TaskProgress, demand: _Demand) -> bool:
        """True if the peer fetches enough from the supernode's machine. Other peers should send the other pieces."""
        return sum(map(task.is_near, demand.progress.given.values())) >= self.policy.near

    def _urgent(self, task: TaskProgress, demand: _Demand, urgent: Urgent) -> PieceChoice | None:
        """The urgent piece and its provider. ``None`` if no provider can serve the piece now."""
        if not demand.missing >> urgent.piece & 1:  # the peer chooses the number: create no integer of its size
            return None
        only = replace(demand, missing=1 << urgent.piece, urgent=True)
        if urgent.stalled and self._has_room(SUPERNODE, demand.now, urgent=True):
            return PieceChoice(urgent.piece, SUPERNODE)
        return self._choose(task, only)

    def _from_here(self, task: TaskProgress, demand: _Demand) -> PieceChoice | None:
        name = self._progress.local_peer
        choice = self._from(task, name, demand) if name is not None and name in task.peers else None
        return choice or self._from(task, SUPERNODE, demand)

    def _from_peers(self, task: TaskProgress, free: Pool, demand: _Demand) -> PieceChoice | None:
        """A piece from the least loaded provider in a random sample of the providers in ``free``."""
        for _ in range(self.policy.draws if len(free) > self.policy.sample else 1):
            if choice := self._from_least_loaded(task, free.draw(self._chance, self.policy.sample), demand):
                return choice
        return None

    def _from_least_loaded(self, task: TaskProgress, drawn: list[str], demand: _Demand) -> PieceChoice | None:
        best, least, offered = "", 0, 0
        for name in drawn:
            booked = self._booked(name)
            if offered and booked >= least:
                continue
            if not (pieces := self._offer(task, name, demand)):
                continue
            if booked < self._limit(name, demand.now, demand.ahead):
                best, least, offered = name, booked, pieces
                if not booked:
                    break
            elif booked:
                self._progress.note_full(demand.task_id, name)
        return PieceChoice(self._any(task.rarest_of(offered)), best) if offered else None

    def _from(self, task: TaskProgress, provider: str, demand: _Demand) -> PieceChoice | None:
        """The rarest piece that ``provider`` can give to the peer now. ``None``: the provider can give no piece."""
        free = self._has_room(provider, demand.now, urgent=demand.urgent, ahead=demand.ahead)
        pieces = self._offer(task, provider, demand) if free else 0
        return PieceChoice(self._any(task.rarest_of(pieces)), provider) if pieces else None

    def _from_any(self, task: TaskProgress, zone: Zone, demand: _Demand) -> PieceChoice | None:
        """A piece from another zone for an idle peer, if no provider in its own zone can serve it."""
        if demand.progress.given:
            return None
        stuck = demand.missing & ~zone.expected
        for name in zone.providers.draw(self._chance, self.policy.sample):
            if self._may_ask(demand, name) and self._slots(name, demand.now):
                stuck &= ~task.peers[name].served
        free = replace(demand, missing=stuck, zone=None, urgent=False)
        return self._from_peers(task, task.free, free) or self._from_here(task, free)

    def _offer(self, task: TaskProgress, provider: str, demand: _Demand) -> int:
        if provider == SUPERNODE:
            return demand.missing if demand.progress.local else self._here(task, demand, provider)
        other = task.peers.get(provider)
        if other is None:
            return 0
        if other.local:
            return self._here(task, demand, provider)
        pieces = other.served & (demand.missing if demand.progress.zone == other.zone else demand.imports)
        return pieces if pieces and self._may_ask(demand, provider) else 0

    def _here(self, task: TaskProgress, demand: _Demand, provider: str) -> int:
        """The pieces that the supernode, or the local peer, may give to a peer on another machine.

        Both use the same link. So the supernode does not give a piece that the local peer will have in a moment. If the
        local peer has a piece, the supernode gives this piece only to a peer that fetches nothing.
        """
        pieces, name = self._seeds(task, demand) or self._assistance(task, demand), self._progress.local_peer
        near = task.peers.get(name) if name is not None else None
        if near is None or name is None or not self._may_ask(demand, name) or not self._slots(name, demand.now):
            return pieces if provider == SUPERNODE else 0
        if provider == name:
            return pieces & near.served
        return pieces & ~(self._coming(task, name, near) | (near.served if demand.progress.given else 0))

    def _coming(self, task: TaskProgress, name: str, near: PeerProgress) -> int:
        """The pieces that the local peer will soon have: those that it fetches, or all if it lacks only a few."""
        lacks = task.copy.cached & ~near.have
        return lacks if near.expected and lacks.bit_count() <= 2 * self._window(name) else near.expected

    def _seeds(self, task: TaskProgress, demand: _Demand) -> int:
        """The needed pieces that no peer has or was given. 0 if the peer has had more than its share of such pieces."""
        seeds = task.seeds & demand.missing
        return seeds if seeds and (demand.urgent or not task.had_its_share(demand.progress)) else 0

    def _assistance(self, task: TaskProgress, demand: _Demand) -> int:
        """The needed pieces that the supernode may give although it has given them before.

        While the file still arrives from its origin, these are only pieces that a peer has verified. A piece on its way
        to a peer can be taken from that peer in a moment. Otherwise, the supernode would send most pieces itself.
        """
        if task.seeds:
            return 0
        return demand.imports & task.verified if task.arriving else demand.imports

    def _may_ask(self, demand: _Demand, provider: str) -> bool:
        barred = self._blacklist and self._blacklist.get((demand.peer, provider), 0.0) > demand.now
        return provider != demand.peer and not barred

    def _has_room(self, provider: str, now: float, *, urgent: bool = False, ahead: int = 0) -> bool:
        more = self.policy.urgent if urgent and provider == SUPERNODE else 0
        return self._booked(provider) < self._limit(provider, now, more + ahead)

    def _limit(self, provider: str, now: float, more: int) -> int:
        """How many pieces a provider may have booked: its slots and ``more``, or 0 if it does not serve.

        If a provider requests work ahead, the other peers of its swarm do so too. Then it takes as many more requests
        from each peer. Otherwise a peer without work, which does not request ahead, would find all providers full.
        """
        slots = self._slots(provider, now)
        return slots + max(more, self._ahead(provider)) if slots else 0

    def _ahead(self, peer: str) -> int:
        return min(known.ahead, self.policy.most_ahead) if (known := self._lookup(peer)) is not None else 0

    def _booked(self, provider: str) -> int:
        service = self._progress.service.get(provider)
        return service.booked if service is not None else 0

    def _slots(self, provider: str, now: float) -> int:
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
        """A random piece of ``pieces``, a bit mask that is not 0."""
        shift = int(self._chance.random() * pieces.bit_length())
        upper = pieces >> shift
        if upper:
            return shift + (upper & -upper).bit_length() - 1
        return (pieces & -pieces).bit_length() - 1


@dataclass(frozen=True, slots=True)
class Managers:
    """The state of the scheduler, in five managers. Their names come from Dragonfly's design. They are pure."""

    tasks: TaskManager
    dfget_tasks: DfgetTaskManager
    peers: PeerManager
    progress: ProgressManager
    scheduler: SchedulerManager
