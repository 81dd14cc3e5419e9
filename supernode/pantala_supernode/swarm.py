"""One task's swarm: who has which piece, and how rare each one is.

Pieces of a client are two integers used as sets, so that a question about all pieces is one operation. Rarity is kept
as one set of pieces per level and moved piece by piece, never computed over all. Pure.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from pantala_protocol import ranges

SUPERNODE = ""
"""The supernode's name as a provider."""


@dataclass(slots=True)
class ClientProgress:
    """One client's pieces of one task."""

    have: int = 0
    """Verified by the client."""
    withheld: int = 0
    """Of those it has, the ones it cannot serve (yet)."""
    given: dict[int, str] = field(default_factory=dict)
    """Given and not reported yet: piece -> provider."""
    given_mask: int = 0
    seeds: int = 0
    """Pieces it got from the supernode, for the fair share of them."""

    @property
    def served(self) -> int:
        """The pieces that others may take from it."""
        return self.have & ~self.withheld


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
        self.supernode_bytes = 0
        """What clients took from the supernode since the swarm began."""
        self.peer_bytes = 0
        """What clients took from each other."""
        self.clients: dict[str, ClientProgress] = {}
        self.members: list[str] = []
        """The clients' names, in no order: to draw a sample without walking over all."""
        self._place: dict[str, int] = {}
        self._busy = 0
        self._busy_seeds = 0
        self._copies: defaultdict[int, int] = defaultdict(int)
        self._levels: dict[int, int] = {}
        self._counted = 0

    @property
    def seeds(self) -> int:
        """Cached pieces that no client has or was given."""
        return self.cached & ~self._counted

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

    def count(self, pieces: int, step: int) -> None:
        """Count one copy more or less (``step`` 1 or -1) of each of ``pieces``."""
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

    def add(self, client: str, progress: ClientProgress) -> None:
        """A client takes part."""
        self.clients[client] = progress
        self._place[client] = len(self.members)
        self.members.append(client)

    def remove(self, client: str) -> None:
        """A client does not take part any more."""
        del self.clients[client]
        place, last = self._place.pop(client), self.members.pop()
        if last != client:
            self.members[place] = last
            self._place[last] = place

    def give(self, progress: ClientProgress, piece: int, provider: str) -> None:
        """Book a piece for a client."""
        if not progress.given:
            self._busy += 1
            self._busy_seeds += progress.seeds
        if provider == SUPERNODE:
            progress.seeds += 1
            self._busy_seeds += 1
        progress.given[piece] = provider
        progress.given_mask |= 1 << piece
        self.count(1 << piece, 1)

    def take_back(self, progress: ClientProgress, piece: int) -> str:
        """The piece is not given any more. Returns who was to serve it."""
        provider = progress.given.pop(piece)
        progress.given_mask &= ~(1 << piece)
        if not progress.given:
            self._busy -= 1
            self._busy_seeds -= progress.seeds
        self.count(1 << piece, -1)
        return provider

    def had_its_share(self, progress: ClientProgress) -> bool:
        """Whether a client had more pieces from the supernode than the mean of those at work, and can wait for more."""
        return bool(progress.given) and progress.seeds * self._busy > self._busy_seeds

    def _move(self, bit: int, level: int, *, out: bool) -> None:
        mask = self._levels.get(level, 0) ^ bit
        if out and not mask:
            del self._levels[level]
        else:
            self._levels[level] = mask
