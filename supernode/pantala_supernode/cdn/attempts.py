"""What remains between two tries to complete a copy: its pieces, and what is known about the origin."""

import random
from dataclasses import dataclass

from pantala_process.backoff import doubled
from pantala_protocol.reasons import Reason, Retry
from pantala_supernode.cdn.recorder import Recorder
from pantala_supernode.errors import SourceError, SupernodeError
from pantala_supernode.origin.source import Provenance

FIRST_DELAY = 0.5
"""The longest delay before the first retry, in seconds. It doubles each time up to ``MAX_DELAY``."""
MAX_DELAY = 60.0
LATER_DELAY = 300.0
"""Seconds between tries if the problem needs a change elsewhere."""
MAX_RESTARTS = 3
"""How often one attempt may discard its pieces. A file that changes faster than that never becomes complete."""


@dataclass
class RetryBudget:
    """The retries that one attempt has used."""

    failures: int = 0
    """Failures of the origin that were retried."""
    streak: int = 0
    """Failures since the last progress."""
    furthest: int = 0
    """The most pieces that were kept at once. Only more pieces are progress."""
    restarts: int = 0
    """How often the origin contradicted itself, so that the copy started from zero."""

    @property
    def spent(self) -> bool:
        return self.restarts > MAX_RESTARTS

    def delay(self, error: SupernodeError, limit: int | None, rng: random.Random) -> float | None:
        """Seconds until the next try after ``error``. ``None``: do not try again."""
        asked = error.retry_after if isinstance(error, SourceError) and error.retry_after is not None else 0.0
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
    """The state of one copy that lasts from try to try. Only its own methods write it."""

    def __init__(self) -> None:
        self.recorder: Recorder | None = None
        self.budget = RetryBudget()
        self.origin_bytes = 0
        """Bytes of body read from the origin."""
        self.room_needed = 0
        """Bytes that were missing on the volume. The supernode asks the origin again when they are free."""
        self.lost = 0
        """Pieces that are damaged on the volume, as a bit mask."""
        self.provenance: Provenance | None = None
        """Where the pieces come from. ``None``: from the origin alone."""
        self.stale = False
        """The copy is whole but may be out of date. The origin must confirm it first."""
        self.unverified_join = False
        """The pieces come from several answers. Only the digest of the whole can prove that they match."""
        self.cut_at: int | None = None
        self._cuts = 0

    def load(self, recorder: Recorder | None) -> None:
        """Use the pieces of ``recorder``. ``None``: there are none that can be read."""
        self.recorder = recorder

    def discard(self) -> None:
        self.recorder = self.provenance = None
        self.unverified_join, self.lost = False, 0

    def join(self, provenance: Provenance) -> None:
        self.provenance = provenance
        self.know_origin_bytes(provenance.origin_bytes)

    def continue_unverified(self) -> None:
        """Add an answer that nothing but the digest ties to the pieces."""
        self.unverified_join = True

    def know_origin_bytes(self, count: int) -> None:
        self.origin_bytes = max(self.origin_bytes, count)

    def read(self, count: int) -> None:
        self.origin_bytes += count

    def progress(self) -> None:
        """Pieces were kept. Pieces that an origin sends again and again are not progress."""
        kept = self.recorder.have.bit_count() if self.recorder is not None else 0
        if kept > self.budget.furthest:
            self.budget.furthest, self.budget.streak = kept, 0

    def renew(self) -> None:
        self.budget = RetryBudget()

    def restart(self, *, same_content: bool = True) -> None:
        """Count that the origin contradicted itself. Another content invalidates the position of former cuts."""
        self.budget.restarts += 1
        if not same_content:
            self.cut_at = None

    def cut(self, position: int) -> int:
        """The body ended too early at ``position``. Returns how often in a row it did so at this byte."""
        self._cuts = self._cuts + 1 if position == self.cut_at else 1
        self.cut_at = position
        return self._cuts

    def lack(self, size: int) -> None:
        self.room_needed = size

    def lose(self, pieces: int) -> None:
        self.lost |= pieces

    def forgot(self, pieces: int) -> None:
        """The recorder took note of these bad pieces."""
        self.lost &= ~pieces

    def doubt(self) -> None:
        self.stale = True

    def trust(self) -> None:
        self.stale = False
