"""One task's swarm: who has which piece, and how rare each one is.

Pieces of a client are two integers used as sets, so that a question about all pieces is one operation. Rarity is kept
as one set of pieces per level and moved piece by piece, never computed over all. Pure.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from pantala_protocol import ranges
from pantala_supernode.swarm.pool import Pool

SUPERNODE = ""
"""The supernode's name as a provider."""


@dataclass(slots=True)
class PeerProgress:
    """One client's pieces of one task."""

    have: int = 0
    """Verified by the client."""
    zone: str = ""
    """Where it is; empty: nowhere in particular."""
    withheld: int = 0
    """Of those it has, the ones it cannot serve (yet)."""
    given: dict[int, str] = field(default_factory=dict)
    """Given and not reported yet: piece -> provider."""
    given_mask: int = 0
    seeds: int = 0
    """Pieces it got from the supernode's machine, for the fair share of them."""
    full: bool = False
    """As many pieces are booked at it as it serves at once."""
    local: bool = False
    """It is on the supernode's own machine: what it has is no nearer to others than what the supernode has."""

    @property
    def served(self) -> int:
        """The pieces that others may take from it."""
        return self.have & ~self.withheld


_LEAD = 2
"""Pieces from this machine that a client may be ahead of the mean: in step to the piece, links are idle in turns."""


def _level(copies: int) -> int:
    """Rarity level of a piece: exact below 8 copies, then 4 levels for each doubling."""
    if copies < 8:
        return copies
    power = copies.bit_length() - 1
    return 8 + (power - 3) * 4 + ((copies >> (power - 2)) & 3)


class TaskProgress:
    """One task's swarm: the supernode's pieces, each client's, and how rare each piece is among the clients."""

    def __init__(self) -> None:
        self.cached = 0
        """Pieces that the supernode can serve."""
        self.arriving = False
        """More of them are to come from the origin."""
        self.verified = 0
        """Pieces that a client had at some time."""
        self.supernode_bytes = 0
        """What clients took from the supernode since the swarm began."""
        self.peer_bytes = 0
        """What clients took from each other."""
        self.clients: dict[str, PeerProgress] = {}
        self.holders = Pool()
        """The clients elsewhere with something to serve."""
        self.free = Pool()
        """Of those, the ones that are not known to be full."""
        self.zones: dict[str, Zone] = {}
        """Those that clients are in."""
        self._busy = 0
        self._busy_seeds = 0
        self._copies: defaultdict[int, int] = defaultdict(int)
        self._levels: dict[int, int] = {}
        self._counted = 0

    @property
    def seeds(self) -> int:
        """Cached pieces that no client elsewhere than on this machine has or was given."""
        return self.cached & ~self._counted

    def is_near(self, provider: str) -> bool:
        """Whether a provider is the supernode, or on its machine."""
        return provider == SUPERNODE or (provider in self.clients and self.clients[provider].local)

    def zone_of(self, progress: PeerProgress) -> Zone | None:
        """The zone that pieces shall come into once for a client; ``None``: there are no borders to be heeded."""
        return self.zones.get(progress.zone) if len(self.zones) > 1 else None

    def rarest_of(self, pieces: int) -> int:
        """Those of ``pieces`` with the fewest copies (held or given)."""
        fresh = pieces & ~self._counted
        if fresh:
            return fresh
        for level in sorted(self._levels):
            rarest = pieces & self._levels[level]
            if rarest:
                return rarest
        return 0

    def copies(self, piece: int) -> int:
        """How many clients hold the piece or were given it."""
        return self._copies[piece] if self._counted >> piece & 1 else 0

    def add(self, client: str, progress: PeerProgress) -> None:
        """A client takes part, with what it has."""
        self.clients[client] = progress
        if progress.zone:
            self.zones.setdefault(progress.zone, Zone()).clients += 1
        if not progress.local:
            self.verified |= progress.have
        self._count(progress, progress.have, 1)
        self._note_holder(client, progress)

    def remove(self, client: str) -> None:
        """A client to which nothing is given does not take part any more."""
        progress = self.clients.pop(client)
        self._count(progress, progress.have, -1)
        progress.have = 0
        self._note_holder(client, progress)
        if progress.zone:
            zone = self.zones[progress.zone]
            zone.clients -= 1
            if not zone.clients:
                del self.zones[progress.zone]

    def give(self, progress: PeerProgress, piece: int, provider: str) -> None:
        """Book a piece for a client."""
        if not progress.given and not progress.local:
            self._busy += 1
            self._busy_seeds += progress.seeds
        if self.is_near(provider) and not progress.local:
            progress.seeds += 1
            self._busy_seeds += 1
        progress.given[piece] = provider
        progress.given_mask |= 1 << piece
        if progress.zone:
            self.zones[progress.zone].give(piece)
        self._count(progress, 1 << piece, 1)

    def take_back(self, progress: PeerProgress, piece: int) -> str:
        """The piece is not given any more. Returns who was to serve it."""
        provider = self._end(progress, piece)
        self._count(progress, 1 << piece, -1)
        return provider

    def verify(self, client: str, progress: PeerProgress, pieces: int, *, serves: bool) -> dict[int, str]:
        """A client has ``pieces``, which others may take if it ``serves``; once said, that stays.

        Returns those of them that were given to it, and who served each.
        """
        news = pieces & ~progress.have
        given = {piece: self._end(progress, piece) for piece in ranges.members(news & progress.given_mask)}
        progress.have |= news
        if not progress.local:
            self.verified |= news
        progress.withheld = progress.withheld & ~pieces if serves else progress.withheld | news
        for piece in given:  # they were counted when they were given
            news &= ~(1 << piece)
        self._count(progress, news, 1)
        self._note_holder(client, progress)
        return given

    def lose(self, client: str, progress: PeerProgress, pieces: int) -> None:
        """A client does not have ``pieces`` after all."""
        lost = pieces & progress.have
        progress.have &= ~lost
        self._count(progress, lost, -1)
        self._note_holder(client, progress)

    def note_full(self, client: str, *, full: bool) -> None:
        """A client serves as many pieces as it can, or does not any more. Unknown ones are no matter."""
        progress = self.clients.get(client)
        if progress is not None and progress.full is not full:
            progress.full = full
            self._note_holder(client, progress)

    def had_its_share(self, progress: PeerProgress) -> bool:
        """Whether a client had more pieces from this machine than the mean of those at work, and can wait for more."""
        return bool(progress.given) and (progress.seeds - _LEAD) * self._busy > self._busy_seeds

    def _end(self, progress: PeerProgress, piece: int) -> str:
        provider = progress.given.pop(piece)
        progress.given_mask &= ~(1 << piece)
        if not progress.given and not progress.local:
            self._busy -= 1
            self._busy_seeds -= progress.seeds
        return provider

    def _note_holder(self, client: str, progress: PeerProgress) -> None:
        if progress.local:
            return
        for part in (self, self.zones[progress.zone]) if progress.zone else (self,):
            _put(part.holders, client, progress.served)
            _put(part.free, client, progress.served and not progress.full)

    def _count(self, progress: PeerProgress, pieces: int, step: int) -> None:
        """Count one copy more or less (``step`` 1 or -1) of each of ``pieces``."""
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


def _put(pool: Pool, name: str, belongs: int) -> None:
    if belongs:
        pool.add(name)
    else:
        pool.discard(name)


class Zone:
    """The pieces of one zone's clients."""

    def __init__(self) -> None:
        self.clients = 0
        self.present = 0
        """Pieces that a client of the zone holds or was given."""
        self.holders = Pool()
        """Its clients with something to serve."""
        self.free = Pool()
        """Of those, the ones that are not known to be full."""
        self._copies: Counter[int] = Counter()
        self._given = 0
        self._given_before = 0

    @property
    def expected(self) -> int:
        """Pieces that were given to a client of the zone a moment ago: others do well to wait for them."""
        return self._given | self._given_before

    def give(self, piece: int) -> None:
        """A client of the zone was told to take a piece."""
        self._given |= 1 << piece

    def count(self, pieces: int, step: int) -> None:
        """One of its clients more or less (``step`` 1 or -1) holds or was given each of ``pieces``."""
        for piece in ranges.members(pieces):
            self._copies[piece] += step
            if self._copies[piece]:
                self.present |= 1 << piece
            else:
                del self._copies[piece]
                self.present &= ~(1 << piece)

    def age(self) -> None:
        """A while is over: what was given before the one before last is not waited for any more."""
        self._given_before, self._given = self._given, 0
