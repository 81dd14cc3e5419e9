"""Whether peers have had the time to come back to a supernode that started anew."""

from __future__ import annotations

from pantala_operator.plan import target
from pantala_operator.ports import Clock
from pantala_operator.watch.observation import Observation

_COMING_BACK = 15.0
"""Seconds that peers have to come back to a supernode that restarted, before they count as disconnected."""


class ReconnectGrace:
    """Looks at which boots the supernodes are in, each time it is asked."""

    def __init__(self, observation: Observation, clock: Clock) -> None:
        """Nobody has come back yet."""
        self._known = observation
        self._clock = clock
        self._boots: tuple[tuple[str, ...], float] = ((), 0.0)

    @property
    def timely(self) -> bool:
        """Whether who has not come back by now is away."""
        supernodes, now = self._known.supernodes, self._clock.monotonic()
        if supernodes.boots != self._boots[0]:
            self._boots = (supernodes.boots, now)
        return supernodes.heard and now - self._boots[1] >= _COMING_BACK

    @property
    def over(self) -> bool:
        """Whether all have come back that can, or have had the time to."""
        timely, supernodes = self.timely, self._known.supernodes
        if not supernodes.heard or supernodes.away:
            return False
        return timely or all(self._has_spoken(name) for name in self._known.peers.items)

    def _has_spoken(self, name: str) -> bool:
        """Whether its word is known, though it may have gone since; or nothing is to be expected of it."""
        node = self._known.nodes.items.get(name)
        return node is None or target.is_ill(node) or name in self._known.supernodes.peers
