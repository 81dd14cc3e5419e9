"""How many pieces may be under way at once: the scheduler's limits, and the pieces that fill the uplink. Pure."""

from dataclasses import dataclass, field

from pantala_supernode.swarm.reputation import Tolerance

_WEIGHT = 0.2
"""The weight of the newest piece time."""
_FADING = 0.9
"""The weight of the former observations after one second."""
_ENOUGH = 4.0
"""Piece-seconds of transfer that are observed before an observation counts."""


@dataclass(frozen=True, slots=True)
class SchedulingPolicy:
    """The scheduler's limits."""

    window: int = 4
    """Pieces given to one peer and not reported, if it does not report how many it downloads at once. More pieces wait
    in queues: 16 takes 70 % longer."""
    most_window: int = 16
    """The same for a peer that reports it."""
    peer_uploads: int = 4
    """Pieces booked at one peer, if it does not report how many it sends at once. Below ``window``, some starve."""
    most_peer_uploads: int = 32
    """The same for a peer that reports it."""
    supernode_uploads: int = 8
    """Pieces booked at the supernode. A receiver gives each sender a part of its link only, so it needs many."""
    most_supernode_uploads: int = 32
    """The same if the bandwidth of its link is known and so many pieces fill it."""
    bandwidth: float | None = None
    """Of the supernode's link, in bytes a second; ``None``: unknown."""
    sample: int = 16
    """Providers and waiting peers that one decision looks at."""
    draws: int = 4
    """Samples that one decision looks at while no provider has room."""
    blacklist_seconds: float = 30.0
    """Seconds for which a peer does not use a provider again that failed it."""
    zone_patience: float = 5.0
    """Seconds that a zone waits at least for a piece given to one of its peers before the piece is brought in again."""
    least_patience: float = 0.5
    """Seconds for which a place is kept at least for a piece that is not fetched. A client begins within 0.1 s."""
    most_patience: float = 1.25
    """The same at most. With the time for which a pull is held before, another client waits for at most 3 s."""
    tolerance: Tolerance = field(default_factory=Tolerance)
    """For providers that fail others."""


class Uplink:
    """How many pieces the supernode sends at once to fill its link: between ``least`` and ``most``.

    The speed of one piece is observed where peers serve each other, so it does not depend on the result. ``bandwidth``
    is that of the supernode's link in bytes a second. While it or the speed is unknown, the result is ``least``.
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
        """Peers took ``total`` bytes from each other so far, and ``under_way`` pieces are being taken."""
        before, self._at = self._at, now
        taken, self._total = total - self._total, total
        if before is not None and (taken or under_way):  # an idle time says nothing
            seconds = now - before
            left = _FADING ** min(seconds, 1000.0)
            self._taken = self._taken * left + taken
            self._under_way = self._under_way * left + under_way * seconds

    @property
    def slots(self) -> int:
        if self._bandwidth is None or self._under_way < _ENOUGH or not self._taken:
            return self._least
        rate = self._taken / self._under_way
        return min(self._most, max(self._least, round(self._bandwidth / rate)))


class PieceTimes:
    """How long a piece usually takes from its assignment to the report, by peer and for all peers together."""

    def __init__(self) -> None:
        self._by_peer: dict[str, float] = {}
        self._all: float | None = None

    def note(self, peer: str, seconds: float) -> None:
        self._all = _mean(self._all, seconds)
        self._by_peer[peer] = _mean(self._by_peer.get(peer), seconds)

    def usual(self, peer: str) -> float | None:
        """The usual time of the peer, else that of all; ``None``: no piece was reported yet."""
        return self._by_peer.get(peer, self._all)

    def forget(self, peer: str) -> None:
        self._by_peer.pop(peer, None)


def _mean(before: float | None, seconds: float) -> float:
    return seconds if before is None else before + _WEIGHT * (seconds - before)
