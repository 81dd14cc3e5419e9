"""The machine's clocks."""

from __future__ import annotations

import time
from datetime import UTC, datetime


class SystemClock:
    """A :class:`pantala_operator.ports.Clock`."""

    def now(self) -> datetime:
        """See :class:`pantala_operator.ports.Clock`."""
        return datetime.now(UTC).replace(microsecond=0)

    def monotonic(self) -> float:
        """See :class:`pantala_operator.ports.Clock`."""
        return time.monotonic()
