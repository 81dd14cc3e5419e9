"""How long the mirror lets containerd wait. containerd has no timeout of its own, and would wait forever."""

from dataclasses import dataclass

_SMALL = 64 * 1024
OPEN_SECONDS = 30.0
"""For this many seconds the mirror answers 404 for a slow repository. A pull of many layers ends in that time."""


@dataclass(frozen=True, slots=True)
class Deadlines:
    """The mirror's deadlines in seconds. If the supernode hangs, a pull loses one of them: then the breaker opens."""

    manifest: float = 4.0
    """Seconds until a manifest's answer. The supernode may first fetch a token, and ask a distant registry twice."""
    small: float = 4.0
    """Seconds until the first byte of a configuration, or of another small blob."""
    blob: float = 5.0
    """Seconds until the first byte of a layer. A piece must come from the registry to this node, and be verified."""
    again: float = 10.0
    """Seconds without the next byte after which the demand is sent again."""
    stall: float = 20.0
    """Seconds without the next byte after which the answer ends. containerd gets the rest from the registry."""
    reader: float = 300.0
    """Seconds that containerd may take to accept a chunk of some 256 KiB. Then the answer ends."""

    def first_byte(self, size: int, *, is_config: bool) -> float:
        return self.small if is_config or size <= _SMALL else self.blob


class RepositoryBreaker:
    """A circuit breaker for each repository. It is open for a while after a missed deadline. ``now`` is in seconds."""

    def __init__(self, seconds: float = OPEN_SECONDS) -> None:
        self._seconds = seconds
        self._until: dict[str, float] = {}

    def trip(self, repository: str, now: float) -> None:
        self._until = {name: until for name, until in self._until.items() if until > now}
        self._until[repository] = now + self._seconds

    def is_open(self, repository: str, now: float) -> bool:
        """True while the mirror should not wait for content of the repository."""
        return self._until.get(repository, now) > now
