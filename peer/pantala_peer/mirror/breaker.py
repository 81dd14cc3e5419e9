"""Which repositories are left alone for a while, so that one pull waits in vain but once. Pure."""

from __future__ import annotations

SECONDS = 30.0
"""For which nothing of a repository is asked for again: a pull of many layers ends in that time."""


class Breaker:
    """Opens for a repository after something of it did not come in time. ``now`` is seconds of any one clock."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._until: dict[str, float] = {}

    def trip(self, repository: str, now: float) -> None:
        """Something of it did not come in time."""
        self._until = {name: until for name, until in self._until.items() if until > now}
        self._until[repository] = now + self._seconds

    def is_open(self, repository: str, now: float) -> bool:
        """Nothing of it is to be waited for."""
        return self._until.get(repository, now) > now
