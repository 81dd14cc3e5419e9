"""When a failed copy is tried again. Pure."""

from __future__ import annotations

import random
from dataclasses import dataclass

from pantala_protocol.reasons import Reason, Retry
from pantala_supernode.errors import SourceError, SupernodeError

FIRST_DELAY = 0.5
"""Seconds before the first new try, at most; doubled each time up to ..."""
MAX_DELAY = 60.0
LATER_DELAY = 300.0
"""Seconds between tries where the world has to change first."""
MAX_RESTARTS = 3
"""How often one attempt may throw pieces away: what changes faster than it can be read is never complete."""


@dataclass
class RetryBudget:
    """What one attempt has used up."""

    failures: int = 0
    """Of the origin, that were tried again."""
    streak: int = 0
    """Failures since something was achieved last."""
    restarts: int = 0
    """How often the origin contradicted itself, so that all began anew."""

    @property
    def spent(self) -> bool:
        """It has begun anew too often."""
        return self.restarts > MAX_RESTARTS

    def delay(self, error: SupernodeError, limit: int | None, rng: random.Random) -> float | None:
        """Seconds until the next try after ``error``; ``None``: there is none."""
        asked = error.retry_after if isinstance(error, SourceError) and error.retry_after is not None else 0.0
        if error.reason.retry is Retry.NEVER:
            return None
        if error.reason.retry is Retry.LATER:
            return max(LATER_DELAY, asked)
        if error.reason in (Reason.SOURCE_CHANGED, Reason.LENGTH_MISMATCH) and self.spent:
            return None
        if isinstance(error, SourceError):  # the volume's failures are not the origin's, and cost it nothing
            self.failures += 1
            if limit is not None and self.failures > limit:
                return None
        ceiling = min(FIRST_DELAY * 2.0 ** min(self.streak, 16), MAX_DELAY)
        self.streak += 1
        return max(rng.uniform(0.0, ceiling), asked)
