"""What one zone has of a task: a piece shall cross the zone's border once. Pure."""

from __future__ import annotations

from collections import Counter

from pantala_protocol import ranges
from pantala_supernode.swarm.pool import Pool


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
