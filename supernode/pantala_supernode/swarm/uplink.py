"""How many pieces the supernode sends at once, so that its link is full. Pure.

A receiver gives each of its senders a part of its link only. So the supernode fills its own link, of a known bandwidth,
with as many pieces as each moves that fast; how fast a piece moves is seen where peers serve each other, which does not
depend on how many the supernode sends.
"""

from __future__ import annotations

_FADING = 0.9
"""What of the former observations is left after a second."""

_ENOUGH = 4.0
"""Pieces under way for a second, or as much as that, before an observation is believed."""


class Uplink:
    """Bounded by ``least`` and ``most`` pieces at once; ``least`` as long as nothing is known.

    ``bandwidth`` is that of the supernode's link in bytes a second; ``None``: not known.
    """

    def __init__(self, bandwidth: float | None, *, least: int, most: int) -> None:
        self._bandwidth = bandwidth
        self._least = least
        self._most = most
        self._taken = 0.0
        self._under_way = 0.0
        self._total = 0
        self._at: float | None = None

    def observe(self, total: int, under_way: int, *, now: float) -> None:
        """Peers took ``total`` bytes from each other until now, and ``under_way`` pieces are on their way there."""
        before, self._at = self._at, now
        taken, self._total = total - self._total, total
        if before is not None and (taken or under_way):  # nothing is learnt while nothing moves
            seconds = now - before
            left = _FADING ** min(seconds, 1000.0)
            self._taken = self._taken * left + taken
            self._under_way = self._under_way * left + under_way * seconds

    @property
    def slots(self) -> int:
        """Pieces at once."""
        if self._bandwidth is None or self._under_way < _ENOUGH or not self._taken:
            return self._least
        rate = self._taken / self._under_way
        return min(self._most, max(self._least, round(self._bandwidth / rate)))
