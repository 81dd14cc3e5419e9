"""When a peer begins its exchanges with a supernode, and how many pieces the peer can use. Pure: callers pass times."""

import math
from collections import deque

MOST_OFTEN = 1 / 15
"""The seconds between two exchanges that only report pieces. A supernode with many peers requests a longer interval."""

_LEAST = 0.002
"""The shortest interval in seconds between two exchanges, so that simultaneous reports share an exchange."""

_LEAST_WITHOUT_CREDIT = 0.010
"""The shortest interval in seconds for urgent reports when the credit is used up."""

_CREDIT = 30.0
"""How many exchanges may begin early, one after the other, if the interval is ``MOST_OFTEN``."""

_LEAST_CREDIT = 2.0
"""How many exchanges may begin early if the interval is long. A busy supernode cannot answer all peers at once."""

_REFILL = 0.25
"""The credit that the peer gets back for each interval without an exchange."""

_HORIZON = 1.0
"""Seconds for which a verified piece counts for the rate."""

_INTERVALS = 3
"""A verified piece counts for at least this many intervals. On a slow link, less than one piece arrives each second."""

_LEAST_SPAN = 0.2
"""The shortest time in seconds for the computation of a rate. The first pieces may come from a network buffer."""

_ROUND_TRIP = 0.04
"""Seconds from a report to the first byte of the next piece, on a busy link. They are added to the interval."""

_MOST_TIMES = 256


class Pace:
    """Spreads the exchanges of one session over time."""

    def __init__(self) -> None:
        self.interval = MOST_OFTEN
        self._credit = _CREDIT
        self._begun_at = float("-inf")

    def earliest(self, now: float, *, early: bool = False, urgent: bool = False) -> float:
        """When the next exchange may begin.

        ``early``: the peer has few pieces left to fetch. ``urgent``: the supernode or a program waits for the report.
        """
        if (early or urgent) and self._refilled(now) >= 1:
            return self._begun_at + _LEAST
        return self._begun_at + (_LEAST_WITHOUT_CREDIT if urgent else self.interval)

    def begin(self, now: float) -> None:
        """Record that an exchange begins."""
        self._credit = max(0.0, self._refilled(now) - 1)
        self._begun_at = now

    def slow_down(self, interval: float) -> None:
        """Use the interval that the supernode requests, but at least ``MOST_OFTEN``."""
        self.interval = max(MOST_OFTEN, interval)

    def _refilled(self, now: float) -> float:
        most = max(_LEAST_CREDIT, _CREDIT * MOST_OFTEN / self.interval)
        return min(most, self._credit + _REFILL * (now - self._begun_at) / self.interval)


class PieceWindow:
    """How many unfinished pieces the peer can use: one for each download, and those that end before new work comes.

    With fewer pieces, the link is sometimes idle. With more pieces, some wait in this peer's queue while other peers
    could download them. So on slow links, the window is only a little larger than ``downloads``.
    """

    def __init__(self, downloads: int) -> None:
        self._downloads = downloads
        self._times: deque[float] = deque(maxlen=_MOST_TIMES)

    def note(self, now: float) -> None:
        """Record that a piece was received and verified."""
        self._times.append(now)

    def size(self, now: float, interval: float) -> int:
        """The number of pieces to request, if ``interval`` seconds pass between two reports."""
        times = self._times
        while times and now - times[0] > max(_HORIZON, _INTERVALS * interval):
            times.popleft()
        if len(times) < 2:
            return self._downloads
        rate = len(times) / max(now - times[0], _LEAST_SPAN)
        return self._downloads + math.ceil(rate * (interval + _ROUND_TRIP))
