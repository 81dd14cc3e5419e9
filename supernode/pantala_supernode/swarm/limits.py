"""The limits that the scheduler keeps."""

from __future__ import annotations

from dataclasses import dataclass, field

from pantala_supernode.swarm.reputation import Tolerance


@dataclass(frozen=True, slots=True)
class SchedulingPolicy:
    """The scheduler's limits."""

    window: int = 4
    """Pieces given to one client that does not say how many it downloads at once, and not reported. More pins pieces
    in queues: 16 costs 70 % of the time."""
    most_window: int = 16
    """Of one that says."""
    peer_uploads: int = 4
    """Pieces booked at a peer that does not say how many it sends at once. Below ``window`` single peers starve."""
    most_peer_uploads: int = 32
    """Of one that says."""
    supernode_uploads: int = 8
    """Pieces booked at the supernode: a receiver gives each sender a part of its link only, so it must serve many."""
    most_supernode_uploads: int = 32
    """With a link of known bandwidth that so many fill."""
    bandwidth: float | None = None
    """Of the supernode's link, in bytes a second; ``None``: not known."""
    sample: int = 16
    """Providers and held clients looked at for one decision."""
    draws: int = 4
    """Samples looked at, if none of a large swarm's has room."""
    blacklist_seconds: float = 30.0
    """How long a client is not sent again to a provider that failed it."""
    zone_patience: float = 5.0
    """Seconds that a zone at least waits for a piece given to one of its clients before it is brought in again."""
    tolerance: Tolerance = field(default_factory=Tolerance)
    """With peers that fail others."""


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
