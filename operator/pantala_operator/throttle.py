"""Lets a log line or an Event through once a minute, because thousands of objects may fail in the same way."""

from typing import Final

from cachetools import TTLCache

from pantala_operator.ports import Clock

QUIET: Final = 60.0
"""Seconds until the same key passes again."""
_REMEMBERED: Final = 20_000
"""The most keys that are remembered."""


class Throttle:
    """Remembers what has passed in the last minute."""

    def __init__(self, clock: Clock) -> None:
        self._passed: TTLCache[tuple[object, ...], bool] = TTLCache(_REMEMBERED, QUIET, timer=clock.monotonic)

    def passes(self, *key: object) -> bool:
        """True if no equal key has passed in the last minute."""
        if key in self._passed:
            return False
        self._passed[key] = True
        return True
