"""Keeps what the next attempt to complete a copy needs from earlier ones: pieces, and facts about the origin."""

import random
from dataclasses import dataclass

from pantala_process.backoff import doubled
from pantala_protocol.reasons import Reason, Retry
from pantala_supernode.cdn.recorder import Recorder
from pantala_supernode.errors import SourceError, SupernodeError
from pantala_supernode.origin.source import Provenance

FIRST_DELAY = 0.5
"""The longest delay before the first retry, in seconds. It doubles with each further retry, up to :data:`MAX_DELAY`."""
MAX_DELAY = 60.0
LATER_DELAY = 300.0
"""Seconds between attempts after a failure with :attr:`Retry.LATER`."""
WRONG_RANGES = 3
"""After so many answers with other bytes than the requested range, an attempt requests only the whole file."""
MAX_RESTARTS = 3
"""How often one attempt may discard its pieces and start again, because the file changed at its origin."""


@dataclass
class RetryBudget:
    """Counts the retries of one attempt, and decides about the next one."""

    failures: int = 0
    """How many failures of the origin led to a retry."""
    streak: int = 0
    """The number of failures since the last new piece."""
    furthest: int = 0
    """The most pieces that the copy has had. Only more pieces count as progress."""
    restarts: int = 0
    """How often the copy started from zero, because the origin's content had changed."""

    wrong_ranges: int = 0
    """How many answers had other bytes than the requested range."""

    @property
    def spent(self) -> bool:
        return self.restarts > MAX_RESTARTS

    def delay(self, error: SupernodeError, limit: int | None, rng: random.Random) -> float | None:
        """Seconds until the next attempt after ``error``. ``None``: no further attempt.

        ``limit``: the most retries after failures of the origin with :attr:`Retry.SOON`. ``None``: unlimited.
        """
        asked = error.retry_after or 0.0
        if error.reason.retry is Retry.NEVER:
            return None
        if error.reason.retry is Retry.LATER:
            return max(LATER_DELAY, asked)
        if error.reason in (Reason.SOURCE_CHANGED, Reason.LENGTH_MISMATCH) and self.spent:
            return None
        if isinstance(error, SourceError):  # failures of the volume do not load the origin
            self.failures += 1
            if limit is not None and self.failures > limit:
                return None
        self.streak += 1
        ceiling = doubled(FIRST_DELAY, MAX_DELAY, self.streak)
        return max(rng.uniform(0.0, ceiling), asked)


class Attempts:
    """What one attempt to complete a copy leaves for the next attempt."""

    def __init__(self) -> None:
        self.recorder: Recorder | None = None
        """Stores the pieces. ``None``: the copy has no readable pieces."""
        self.budget = RetryBudget()
        self.origin_bytes = 0
        """Bytes of bodies that were read from the origin for this copy."""
        self.room_needed = 0
        """Bytes that the last attempt could not write. The next one asks the origin only if so many bytes are free."""
        self.lost = 0
        """The pieces that are damaged on the volume, as a bit mask."""
        self.provenance: Provenance | None = None
        """The replica's copy that sent pieces. ``None``: all pieces come from the origin."""
        self.stale = False
        """True if the copy is complete but may be out of date. The origin must confirm the copy before it is used."""
        self.unverified_join = False
        """True if pieces of several answers were joined without a validator. The file's digest shows if they match."""
        self.cut_at: int | None = None
        self._cuts = 0
        self._refused_at = 0
        """How many bytes had arrived from the origin at the last refusal."""

    @property
    def size(self) -> int:
        """The bytes that the copy takes on the volume. The room for a known length is reserved from the start."""
        if self.recorder is None:
            return 0
        meta = self.recorder.meta
        return meta.length if meta.length is not None else self.recorder.have.bit_count() * meta.piece_size

    @property
    def ranges_fail(self) -> bool:
        """True if the origin answers requests for ranges with other bytes."""
        return self.budget.wrong_ranges >= WRONG_RANGES

    def discard(self) -> None:
        self.recorder = self.provenance = None
        self.unverified_join, self.lost = False, 0

    def join(self, provenance: Provenance) -> None:
        self.provenance = provenance
        self.know_origin_bytes(provenance.origin_bytes)

    def know_origin_bytes(self, count: int) -> None:
        self.origin_bytes = max(self.origin_bytes, count)

    def progress(self) -> None:
        """Record that pieces were stored. It is progress only if the copy has more pieces than ever before."""
        kept = self.recorder.have.bit_count() if self.recorder is not None else 0
        if kept > self.budget.furthest:
            self.budget.furthest, self.budget.streak = kept, 0

    def renew(self) -> None:
        self.budget = RetryBudget()

    def restart(self, *, same_content: bool = True) -> None:
        """Count a start from zero. If the content has changed, also forget where former bodies were cut."""
        self.budget.restarts += 1
        if not same_content:
            self.cut_at = None

    def cut(self, position: int) -> int:
        """Record that a body ended too early at byte ``position``. Returns how many bodies in a row ended there."""
        self._cuts = self._cuts + 1 if position == self.cut_at else 1
        self.cut_at = position
        return self._cuts

    def refused(self) -> bool:
        """Record that the origin refused a request. Returns True if bytes arrived since the last refusal."""
        arrived, self._refused_at = self.origin_bytes > self._refused_at, self.origin_bytes
        return arrived
