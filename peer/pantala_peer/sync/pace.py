"""When a peer begins its exchanges with a supernode, and how many pieces it can use. Pure: times are passed in."""

import math
from collections import deque

MOST_OFTEN = 1 / 15
"""The seconds between two exchanges that only report pieces. A supernode with many peers asks for more."""

_LEAST = 0.002
"""The least seconds between two exchanges, so that reports of the same moment are joined."""

_LEAST_WITHOUT_CREDIT = 0.010
"""The same for urgent reports, after the credit is used up."""

_CREDIT = 30.0
"""The number of exchanges in a row that may begin early, at the shortest interval."""

_LEAST_CREDIT = 2.0
"""The same at the longest intervals. A busy supernode cannot answer all peers at once."""

_REFILL = 0.25
"""The credit that an interval without an exchange gives back."""

_HORIZON = 1.0
"""Seconds for which a verified piece counts for the rate."""

_INTERVALS = 3
"""The same as a number of intervals, if that is longer. Slow pieces arrive less than once a second."""

_LEAST_SPAN = 0.2
"""Seconds, the shortest time that a rate is computed over. A link may deliver its first pieces from a buffer."""

_ROUND_TRIP = 0.04
"""Seconds from a report to the first byte of a piece that it brings, on a busy link. They count like the interval."""

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
        """Note that an exchange begins."""
        self._credit = max(0.0, self._refilled(now) - 1)
        self._begun_at = now

    def slow_down(self, interval: float) -> None:
        """Take the interval that the supernode asks for."""
        self.interval = max(MOST_OFTEN, interval)

    def _refilled(self, now: float) -> float:
        most = max(_LEAST_CREDIT, _CREDIT * MOST_OFTEN / self.interval)
        return min(most, self._credit + _REFILL * (now - self._begun_at) / self.interval)


class PieceWindow:
    """How many unfinished pieces the peer can use: one for each download, and those that end before new work arrives.

    With fewer, its link is idle at times. With more, pieces wait in its queue while others could take them. So on slow
    links it is only a few more than the number of ``downloads``.
    """

    def __init__(self, downloads: int) -> None:
        self._downloads = downloads
        self._times: deque[float] = deque(maxlen=_MOST_TIMES)

    def note(self, now: float) -> None:
        """Note that a piece was received and verified."""
        self._times.append(now)

    def size(self, now: float, interval: float) -> int:
        """The number of pieces to ask for, if ``interval`` seconds pass between two reports."""
        times = self._times
        while times and now - times[0] > max(_HORIZON, _INTERVALS * interval):
            times.popleft()
        if len(times) < 2:
            return self._downloads
        rate = len(times) / max(now - times[0], _LEAST_SPAN)
        return self._downloads + math.ceil(rate * (interval + _ROUND_TRIP))
