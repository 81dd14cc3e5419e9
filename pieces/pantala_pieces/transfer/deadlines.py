"""How long a provider may take. The limits depend on the usual time of a piece."""

import time
from dataclasses import dataclass

from pantala_pieces.transfer.channel import TICK
from pantala_pieces.transfer.errors import StalledError
from pantala_protocol.sync import PieceWork

_MAX_STALL = 10.0
"""The longest time limit, in seconds, for an answer from which no byte arrives."""

_MAX_SLOW = 15.0
"""The longest time limit, in seconds, for a provider that is too slow. It applies until the usual time is known."""

_MAX_HEAD_TIME = 3.0
"""The most seconds until the head of a peer's answer. A peer answers within 2 s, also if all its upload slots are busy.
If it does not, another provider must send the piece before the container runtime gives up. The supernode may take
longer, because it limits its rate."""

_MIN_RATE = 32 * 1024
"""The minimum rate in bytes per second. A provider that stays below it for some seconds counts as stalled."""

_MOST_DURATIONS = 15
"""The usual time of a piece is the median time of this many recent pieces."""


@dataclass(frozen=True, slots=True)
class ReceiveTimeouts:
    """How long an answer may take, in seconds."""

    head: float
    stall: float
    slow: float = 5.0
    """How long a provider may be slower than the minimum rate, because a link may be slow for a moment."""


class AdaptiveTimeouts:
    """The timeouts in force. They are longer while all pieces are slow, as on a slow link of this node.

    Any thread may use it.
    """

    def __init__(self, timeouts: ReceiveTimeouts) -> None:
        self._timeouts = timeouts
        self._durations: tuple[float, ...] = ()
        """How long recent pieces took. If two threads replace the tuple at once, one time is lost."""

    def note(self, seconds: float) -> None:
        """Record how long one piece took."""
        self._durations = (*self._durations[-_MOST_DURATIONS + 1 :], seconds)

    def timeouts_for(self, work: PieceWork) -> ReceiveTimeouts:
        head = min(self._timeouts.head, _MAX_HEAD_TIME) if work.provider else self._timeouts.head
        durations = sorted(self._durations)
        if not durations:
            return ReceiveTimeouts(head, self._timeouts.stall, _MAX_SLOW)
        usual = durations[len(durations) // 2]
        stall = max(self._timeouts.stall, min(4 * usual, _MAX_STALL))
        return ReceiveTimeouts(head, stall, max(self._timeouts.slow, min(8 * usual, _MAX_SLOW)))


class AnswerWatch:
    """Compares the progress of one answer with the timeouts, at most four times a second."""

    def __init__(self, timeouts: AdaptiveTimeouts, work: PieceWork) -> None:
        self._timeouts = timeouts
        self._work = work
        self.begun_at = self._last_byte = self._checked_at = time.monotonic()
        self._received = 0
        self._in_body = False
        self.answered = False
        """True once a byte of the answer has arrived."""

    def progress(self, body: int = 0) -> None:
        """Record that bytes arrived, ``body`` of them in the body of the answer. Raises :class:`StalledError`."""
        now = time.monotonic()
        self.answered = True
        self._received += body
        self._last_byte = now
        if now - self._checked_at >= TICK:
            self._compare(now)

    def begin_body(self, received: int) -> None:
        """Record that the head is complete, and that ``received`` bytes of the body arrived with it."""
        self._in_body = True
        self._received = received

    def check(self) -> None:
        """Raise :class:`StalledError` if a deadline has passed. Call this while no byte arrives."""
        now = time.monotonic()
        if now - self._checked_at >= TICK / 2:
            self._compare(now)

    def _compare(self, now: float) -> None:
        self._checked_at = now
        timeouts = self._timeouts.timeouts_for(self._work)
        quiet = now - self._last_byte
        limit = timeouts.stall if self._in_body else timeouts.head
        if quiet < limit and self._received >= (now - self.begun_at - timeouts.slow) * _MIN_RATE:
            return
        why = f"no byte for {quiet:.1f} s" if quiet >= limit else "too few bytes per second"
        raise StalledError(f"{self._received} of {self._work.size} bytes arrived, then {why}")
