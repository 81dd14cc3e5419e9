"""How long the mirror lets containerd wait. containerd itself has no timeout."""

from dataclasses import dataclass

_SMALL = 64 * 1024
OPEN_SECONDS = 30.0
"""Seconds for which the mirror answers 404 for a slow repository. A pull of many layers ends in this time."""


@dataclass(frozen=True, slots=True)
class Deadlines:
    """The mirror's deadlines in seconds. If a supernode hangs, a pull waits for one deadline, and the breaker opens."""

    manifest: float = 4.0
    """Seconds until a manifest arrives. The supernode may first fetch a token, and ask the registry twice."""
    small: float = 4.0
    """Seconds until the first byte of a configuration, or of another small blob."""
    blob: float = 5.0
    """Seconds until the first byte of a layer. A piece must come from the registry to this node, and be verified."""
    again: float = 10.0
    """Seconds without the next byte after which the demand is sent again."""
    stall: float = 20.0
    """Seconds without the next byte after which the answer ends. The registry then sends the missing bytes."""
    reader: float = 300.0
    """The most seconds in which containerd must accept a chunk of some 256 KiB. After that, the answer ends."""

    def first_byte(self, size: int, *, is_config: bool) -> float:
        return self.small if is_config or size <= _SMALL else self.blob


class RepositoryBreaker:
    """A circuit breaker for each repository, which is open for some time after a missed deadline. ``now``: seconds."""

    def __init__(self, seconds: float = OPEN_SECONDS) -> None:
        self._seconds = seconds
        self._until: dict[str, float] = {}

    def trip(self, repository: str, now: float) -> None:
        self._until = {name: until for name, until in self._until.items() if until > now}
        self._until[repository] = now + self._seconds

    def is_open(self, repository: str, now: float) -> bool:
        """True while the mirror should not wait for content of the repository."""
        return self._until.get(repository, now) > now
