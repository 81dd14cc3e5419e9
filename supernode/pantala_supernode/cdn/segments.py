"""Divides the missing pieces of one copy among the connections that read it. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Division:
    """How one copy is divided among connections."""

    segment: int = 16 * 1024 * 1024
    """Bytes of a segment, at least one piece. Short segments cost round trips. Long segments delay the first pieces."""
    least: int = 512 * 1024 * 1024
    """The first request is divided if so many bytes are missing. Its early end wastes a few MiB on their way."""
    window: float = 0.2
    """Seconds for which the throughput of a number of connections is measured."""
    gain: float = 1.25
    """The factor by which twice the connections must raise the throughput. If they do not, their number is halved."""
    pause: int = 20
    """How many windows pass without another doubling, after a doubling did not raise the throughput enough."""
    patience: float = 3.0
    """Seconds. If one connection can read the rest of the file in this time, no other connection is opened.

    To end its request early wastes the bytes that the origin has already sent.
    """
    fast: float = 200_000_000
    """Bytes per second of one connection. If the connections are so fast, more connections would gain little."""

    def pieces(self, piece_size: int) -> int:
        return max(1, self.segment // piece_size)


class Segment:
    """The pieces that one connection reads, in order."""

    def __init__(self, pieces: range) -> None:
        self.next = pieces.start
        """The first piece of the segment that has not arrived."""
        self.stop = pieces.stop

    @property
    def rest(self) -> range:
        return range(self.next, self.stop)

    def advance(self) -> None:
        self.next += 1

    def shorten(self, stop: int) -> range:
        """End the segment before the piece ``stop``. Returns the removed pieces."""
        left_out = range(min(stop, self.stop), self.stop)
        self.stop -= len(left_out)
        return left_out


class SegmentPlan:
    """The missing pieces that no connection reads yet. The first pieces are read first, because peers wait for them."""

    def __init__(self, missing: int, parts: int, pieces: int) -> None:
        """``missing``: the missing pieces. ``parts``: the pieces of which a part is written. Both are bit masks.

        ``pieces``: the number of pieces in a segment.
        """
        self._free = missing
        self._parts = parts
        self._pieces = pieces

    def take(self) -> Segment | None:
        """The first contiguous free pieces, at most one segment. ``None``: no piece is free.

        A piece of which a part is written begins a segment, because a request can continue only one part.
        """
        if not self._free:
            return None
        first = (self._free & -self._free).bit_length() - 1
        run = (self._free & ~self._parts) >> first | 1
        length = min((~run & (run + 1)).bit_length() - 1, self._pieces)
        self._free &= ~(((1 << length) - 1) << first)
        return Segment(range(first, first + length))

    def give_back(self, pieces: range) -> None:
        """Record that no connection reads ``pieces`` any more. A part of the first of them may be written."""
        if pieces:
            self._parts |= 1 << pieces.start
        self._free |= ((1 << len(pieces)) - 1) << pieces.start

    def divide(self, segment: Segment) -> None:
        """Shorten ``segment`` to the usual length, and make its other pieces free."""
        self.give_back(segment.shorten(segment.next + self._pieces))


class ConnectionScale:
    """Decides how many connections read one copy. The number doubles while that raises the throughput."""

    def __init__(self, most: int, division: Division) -> None:
        self.target = 1
        self._most = most
        self._division = division
        self._skipped = 1
        """How many windows are still skipped. Many servers send the first bytes faster than later bytes."""
        self._former = (0, 0.0)
        """The number of connections before the last doubling, and their throughput in bytes per second."""

    def measured(self, rate: float, rest: int) -> None:
        """Decide the next target.

        ``rate``: bytes per second in one window, while the target number of connections was reading. ``rest``: the
        missing bytes.
        """
        if self._skipped:
            self._skipped -= 1
            return
        (connections, before), self._former = self._former, (0, 0.0)
        if connections and rate < before * self._division.gain:
            self.target, self._skipped = connections, self._division.pause
        elif self._enough(rate, rest):
            return
        else:
            self._former = self.target, rate
            self.target = min(2 * self.target, self._most)

    def limit(self, connections: int) -> None:
        """Use at most ``connections`` from now on, because the origin refused or cut a further connection."""
        self._most = self.target = max(1, min(connections, self.target))
        self._former = 0, 0.0

    def _enough(self, rate: float, rest: int) -> bool:
        if self.target >= self._most or rate >= self._division.fast * self.target:
            return True
        return self.target == 1 and rest <= rate * self._division.patience
