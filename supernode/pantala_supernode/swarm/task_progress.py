"""One task's swarm: which peer has which piece, and how rare each piece is. Pure.

A set of pieces is an integer, used as a bit mask. So an operation on all pieces is one operation on integers. For each
level of rarity there is one set of pieces. When the number of copies of a piece changes, the piece may change level.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from pantala_protocol import ranges
from pantala_protocol.statement import CDNStatus
from pantala_supernode.swarm.pool import Pool
from pantala_supernode.tasks.copy import Copy

SUPERNODE = ""
"""The name of the supernode as a provider."""

_LEAD = 2
"""How many more pieces than the mean a peer may get from the supernode's machine. With 0, links would be idle."""


@dataclass(slots=True)
class PeerProgress:
    """One peer's pieces of one task. Sets of pieces are bit masks."""

    have: int = 0
    """The pieces that the peer has verified."""
    zone: str = ""
    """The peer's zone. Empty: the peer has no zone."""
    withheld: int = 0
    """The pieces of ``have`` that the peer cannot serve yet."""
    given: dict[int, str] = field(default_factory=dict)
    """The pieces that the peer was given and has not reported yet, with their providers."""
    given_mask: int = 0
    lapsed: int = 0
    """The given pieces that the peer does not fetch in time. Other peers may be given these pieces too."""
    carried: int = 0
    """The given pieces whose bytes the work contains, so that they take no place at a provider."""
    seeds: int = 0
    """The number of pieces that the peer was given from the supernode's machine."""
    full: bool = False
    """True if the peer serves as many pieces as it can."""
    local: bool = False
    """True for the peer on the supernode's machine. For other peers, it is as far away as the supernode."""

    @property
    def served(self) -> int:
        return self.have & ~self.withheld

    @property
    def expected(self) -> int:
        """The given pieces that the peer will probably have in a moment."""
        return self.given_mask & ~self.lapsed


class Zone:
    """The pieces of the peers of one zone. Each piece should come from outside the zone only once."""

    def __init__(self) -> None:
        self.peers = 0
        self.present = 0
        """The pieces that a peer of the zone has or was given."""
        self.providers = Pool()
        """The peers of the zone that can serve a piece."""
        self.free = Pool()
        """The ``providers`` that are not marked as full."""
        self._copies: Counter[int] = Counter()
        self._given = 0
        self._given_before = 0

    @property
    def expected(self) -> int:
        """The pieces that were recently given to a peer of the zone. Other peers of the zone should wait for them."""
        return self._given | self._given_before

    def give(self, piece: int) -> None:
        self._given |= 1 << piece

    def count(self, pieces: int, step: int) -> None:
        """Add ``step`` (1 or -1) to the number of copies of each of ``pieces``."""
        for piece in ranges.members(pieces):
            self._copies[piece] += step
            if self._copies[piece]:
                self.present |= 1 << piece
            else:
                del self._copies[piece]
                self.present &= ~(1 << piece)

    def age(self) -> None:
        """Remove from :attr:`expected` the pieces that were given before the previous call."""
        self._given_before, self._given = self._given, 0


class TaskProgress:
    """One task's swarm: the pieces of the supernode and of each peer, and how rare each piece is among the peers."""

    def __init__(self, copy: Copy) -> None:
        self.copy = copy
        """The state of the supernode's copy."""
        self.verified = 0
        """The pieces that any peer on another machine has verified since the swarm began."""
        self.supernode_bytes = 0
        """Bytes that peers took from the supernode since the swarm began."""
        self.peer_bytes = 0
        """Bytes that peers took from each other since the swarm began."""
        self.peers: dict[str, PeerProgress] = {}
        self.providers = Pool()
        """The peers on other machines that can serve a piece."""
        self.free = Pool()
        """The ``providers`` that are not marked as full."""
        self.zones: dict[str, Zone] = {}
        """The zones that have peers in this swarm, by name."""
        self._busy = 0
        self._busy_seeds = 0
        self._copies: defaultdict[int, int] = defaultdict(int)
        self._levels: dict[int, int] = {}
        self._counted = 0

    @property
    def arriving(self) -> bool:
        return self.copy.status is not CDNStatus.SUCCESS

    @property
    def seeds(self) -> int:
        """The cached pieces that no peer on another machine has or was given."""
        return self.copy.cached & ~self._counted

    def is_near(self, provider: str) -> bool:
        return provider == SUPERNODE or (provider in self.peers and self.peers[provider].local)

    def zone_of(self, progress: PeerProgress) -> Zone | None:
        """The zone of a peer. ``None``: zones do not matter, because all peers are in one zone."""
        return self.zones.get(progress.zone) if len(self.zones) > 1 else None

    def rarest_of(self, pieces: int) -> int:
        """Those of ``pieces`` that the fewest peers have or fetch."""
        fresh = pieces & ~self._counted
        if fresh:
            return fresh
        for level in sorted(self._levels):
            rarest = pieces & self._levels[level]
            if rarest:
                return rarest
        return 0

    def copies(self, piece: int) -> int:
        return self._copies[piece] if self._counted >> piece & 1 else 0

    def add_peer(self, name: str, progress: PeerProgress) -> None:
        self.peers[name] = progress
        if progress.zone:
            self.zones.setdefault(progress.zone, Zone()).peers += 1
        if not progress.local:
            self.verified |= progress.have
        self._count(progress, progress.have, 1)
        self._index(name, progress)

    def remove_peer(self, name: str) -> None:
        """Remove a peer. All its given pieces must have been taken back before."""
        progress = self.peers.pop(name)
        self._count(progress, progress.have, -1)
        progress.have = 0
        self._index(name, progress)
        if progress.zone:
            zone = self.zones[progress.zone]
            zone.peers -= 1
            if not zone.peers:
                del self.zones[progress.zone]

    def give(self, progress: PeerProgress, piece: int, provider: str) -> None:
        self._mark(progress, piece, given=True)
        if self.is_near(provider) and not progress.local:
            progress.seeds += 1
            self._busy_seeds += 1
        progress.given[piece] = provider
        if progress.zone:
            self.zones[progress.zone].give(piece)
        self._count(progress, 1 << piece, 1)

    def take_back(self, progress: PeerProgress, piece: int) -> str:
        """Undo :meth:`give`: the piece is free again. Returns its former provider."""
        self._count(progress, progress.expected & 1 << piece, -1)
        self._mark(progress, piece, given=False)
        return progress.given.pop(piece)

    def lapse(self, progress: PeerProgress, piece: int) -> None:
        """Do not expect a given piece any more, because the peer does not fetch it."""
        self._mark(progress, piece, given=True, lapsed=True)
        self._count(progress, 1 << piece, -1)

    def resume(self, progress: PeerProgress, piece: int) -> None:
        """Undo :meth:`lapse`, because the peer fetches the piece now."""
        self._mark(progress, piece, given=True)
        self._count(progress, 1 << piece, 1)

    def verify(self, name: str, progress: PeerProgress, pieces: int, *, serves: bool) -> dict[int, str]:
        """Record that a peer has verified ``pieces``. If it ``serves``, other peers may now take them from it.

        Returns those of the pieces that the peer was given, with their providers.
        """
        news = pieces & ~progress.have
        uncounted = news & ~progress.expected
        given = {piece: progress.given.pop(piece) for piece in ranges.members(news & progress.given_mask)}
        for piece in given:
            self._mark(progress, piece, given=False)
        progress.have |= news
        if not progress.local:
            self.verified |= news
        progress.withheld = progress.withheld & ~pieces if serves else progress.withheld | news
        self._count(progress, uncounted, 1)
        self._index(name, progress)
        return given

    def remove_pieces(self, name: str, progress: PeerProgress, pieces: int) -> None:
        lost = pieces & progress.have
        progress.have &= ~lost
        self._count(progress, lost, -1)
        self._index(name, progress)

    def note_full(self, name: str, *, full: bool) -> None:
        """Mark whether a peer serves as many pieces as it can. Does nothing for an unknown peer."""
        progress = self.peers.get(name)
        if progress is not None and progress.full is not full:
            progress.full = full
            self._index(name, progress)

    def had_its_share(self, progress: PeerProgress) -> bool:
        """True if a busy peer got over :data:`_LEAD` pieces more than the mean from the supernode's machine."""
        return bool(progress.expected) and (progress.seeds - _LEAD) * self._busy > self._busy_seeds

    def _mark(self, progress: PeerProgress, piece: int, *, given: bool, lapsed: bool = False) -> None:
        """Record the state of one piece of a peer. A peer with expected pieces counts as busy."""
        bit, before = 1 << piece, progress.expected
        progress.given_mask = progress.given_mask | bit if given else progress.given_mask & ~bit
        progress.lapsed = progress.lapsed | bit if lapsed else progress.lapsed & ~bit
        step = bool(progress.expected) - bool(before)
        if step and not progress.local:
            self._busy += step
            self._busy_seeds += step * progress.seeds

    def _index(self, name: str, progress: PeerProgress) -> None:
        """Update the pools of providers for a peer whose pieces or load changed."""
        if progress.local:
            return
        for part in (self, self.zones[progress.zone]) if progress.zone else (self,):
            part.providers.put(name, member=progress.served > 0)
            part.free.put(name, member=progress.served > 0 and not progress.full)

    def _count(self, progress: PeerProgress, pieces: int, step: int) -> None:
        """Add ``step`` (1 or -1) to the number of copies of each of ``pieces``."""
        if progress.local:
            return
        if progress.zone:
            self.zones[progress.zone].count(pieces, step)
        for piece in ranges.members(pieces):
            bit = 1 << piece
            before = self._copies[piece]
            after = self._copies[piece] = before + step
            if before:
                self._move(bit, _level(before), out=True)
            if after:
                self._move(bit, _level(after), out=False)
                self._counted |= bit
            else:
                del self._copies[piece]
                self._counted &= ~bit

    def _move(self, bit: int, level: int, *, out: bool) -> None:
        mask = self._levels.get(level, 0) ^ bit
        if out and not mask:
            del self._levels[level]
        else:
            self._levels[level] = mask


def _level(copies: int) -> int:
    """The rarity level of a piece with ``copies`` copies: exact below 8 copies, then 4 levels for each doubling."""
    if copies < 8:
        return copies
    power = copies.bit_length() - 1
    return 8 + (power - 3) * 4 + ((copies >> (power - 2)) & 3)
