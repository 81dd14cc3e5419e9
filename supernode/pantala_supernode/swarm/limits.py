"""How many pieces may be in transit at once: the scheduler's limits, and the capacity of the supernode's link. Pure."""

from dataclasses import dataclass, field

from pantala_supernode.swarm.reputation import Tolerance

_WEIGHT = 0.2
"""The weight of the newest time in the moving average of piece times."""
_FADING = 0.9
"""The factor by which an observation loses weight in each second."""
_ENOUGH = 4.0
"""The amount of observed transfer, in pieces times seconds, that is enough to use the measured speed."""


@dataclass(frozen=True, slots=True)
class SchedulingPolicy:
    """The scheduler's limits."""

    window: int = 4
    """The most unfinished pieces of one peer, if it does not report how many it downloads at once. With more, pieces
    wait in queues: with 16, a file takes 70 % longer."""
    near: int = 2
    """The pieces that one peer fetches from the supernode's machine at once, if other peers can send others. With 4,
    the supernode sends 2 % more to 100 peers, and no peer is faster."""
    most_window: int = 16
    """The most unfinished pieces of one peer, if it reports how many it downloads at once."""
    most_ahead: int = 64
    """The most further pieces of a fast peer, because it finishes several pieces between two reports."""
    peer_uploads: int = 4
    """The most pieces that one peer sends at once, if it does not report its limit. With fewer than ``window``, some
    peers would get no pieces."""
    most_peer_uploads: int = 32
    """The most pieces that one peer sends at once, if it reports its limit."""
    supernode_uploads: int = 8
    """The most pieces that the supernode sends at once, if the bandwidth of its link is not known."""
    most_supernode_uploads: int = 32
    """The most pieces that the supernode sends at once, if its bandwidth is known and needs so many."""
    urgent: int = 2
    """How many more pieces a peer is given, and the supernode sends, if readers wait for these pieces. So the pieces do
    not wait behind the large pieces of another file."""
    most_carried: int = 64
    """The most small files that one peer was given together with their bytes, and has not stored yet."""
    most_carried_bytes: int = 256 * 1024
    """The most bytes of small files in one answer."""
    bandwidth: float | None = None
    """The bandwidth of the supernode's link in bytes a second. ``None``: not known."""
    sample: int = 16
    """The number of random providers, or of random waiting peers, from which a decision takes the best."""
    draws: int = 4
    """The most samples of providers that a decision draws to find a provider that can serve."""
    blacklist_seconds: float = 30.0
    """Seconds for which a peer gets no pieces from a provider after a failure between them."""
    busy_seconds: float = 2.0
    """Seconds for which a peer gets no pieces from a provider that refused it for lack of a slot."""
    zone_patience: float = 5.0
    """Seconds. If a peer of a zone was given a piece, all other peers of the zone wait at least this long for it. After
    that, another peer of the zone may take the piece from outside the zone."""
    least_patience: float = 0.5
    """The fewest seconds for which a place at the supernode is kept for a peer that does not fetch its piece. A client
    usually begins to fetch within 0.1 s."""
    most_patience: float = 1.25
    """The most such seconds. A pull is held for up to 1.5 s, so another client waits at most 3 s."""
    tolerance: Tolerance = field(default_factory=Tolerance)
    """When to exclude a provider that serves badly."""


class Uplink:
    """Computes how many pieces the supernode must send at once to fill its link, between ``least`` and ``most``.

    The result is ``bandwidth``, the bytes per second of the link, divided by the speed of one piece. This speed is
    measured between peers, where the result does not change it. While either is not known, the result is ``least``.
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
        """Use a measurement: peers have taken ``total`` bytes from each other, and fetch ``under_way`` pieces now."""
        before, self._at = self._at, now
        taken, self._total = total - self._total, total
        if before is not None and (taken or under_way):  # idle time shows no speed
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
    """The mean seconds from the assignment of a piece to its report, for each peer and for all peers together."""

    def __init__(self) -> None:
        self._by_peer: dict[str, float] = {}
        self._all: float | None = None

    def note(self, peer: str, seconds: float) -> None:
        self._all = _mean(self._all, seconds)
        self._by_peer[peer] = _mean(self._by_peer.get(peer), seconds)

    def usual(self, peer: str) -> float | None:
        """The mean time of the peer in seconds, or else of all peers. ``None``: no piece was reported yet."""
        return self._by_peer.get(peer, self._all)

    def forget(self, peer: str) -> None:
        self._by_peer.pop(peer, None)


def _mean(before: float | None, seconds: float) -> float:
    return seconds if before is None else before + _WEIGHT * (seconds - before)
