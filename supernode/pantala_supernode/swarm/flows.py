"""How many bytes each node gets from each provider, and how fast. Pure: the time is passed in.

The bytes are counted in buckets of one second. A rate covers :data:`WINDOW` seconds of complete buckets, and changes
smoothly within a second. So the sum of rates that are read once a second is exactly the number of bytes.
"""

from collections.abc import Callable, Iterator
from typing import Final

from pantala_protocol.console.progress import WINDOW

_KEPT: Final = WINDOW + 1
"""Seconds after which bytes no longer count for a rate."""
_MOST_PROVIDERS: Final = 16
"""The most providers of one download whose bytes are kept. The provider with the fewest bytes is dropped first."""


class FlowMeter:
    """The bytes that arrived from each provider. ``now`` is in seconds and never decreases."""

    __slots__ = ("_began", "_buckets", "_latest", "_second", "sums")

    def __init__(self) -> None:
        self.sums: dict[str, int] = {}
        """All bytes by provider, for the providers with the most bytes."""
        self._buckets: list[tuple[int, dict[str, int]]] = []
        """The last seconds in which bytes arrived, the oldest first, each with its bytes by provider."""
        self._second = -1
        self._latest: dict[str, int] = {}
        self._began = 0.0
        """When the first bytes arrived after a time without a rate."""

    def add(self, provider: str, amount: int, now: float) -> None:
        second = int(now)
        if second != self._second:
            if self._second < 0 or self.idle(now):
                self._began = now
            self._begin(second)
        latest, sums = self._latest, self.sums
        latest[provider] = latest.get(provider, 0) + amount
        sums[provider] = sums.get(provider, 0) + amount
        if len(sums) > _MOST_PROVIDERS:
            del sums[min((name for name in sums if name != provider), key=sums.__getitem__)]

    def rates(self, now: float) -> dict[str, float]:
        """The bytes per second from each provider that sent bytes in the last seconds."""
        rates: dict[str, float] = {}
        for second, bucket in self._buckets:
            weight = min(1.0, now - 1 - second, second + _KEPT - now + 1)
            if weight > 0:
                for provider, amount in bucket.items():
                    rates[provider] = rates.get(provider, 0.0) + amount * weight / WINDOW
        return rates

    def pace(self, now: float) -> float:
        """The bytes per second from all providers since the first bytes arrived, or in the window. 0: not known yet."""
        covered = min(now - 1 - self._began, WINDOW)
        return sum(self.rates(now).values()) * WINDOW / covered if covered >= 1 else 0.0

    @property
    def latest(self) -> int:
        """The second in which the last bytes arrived. -1: no bytes arrived recently."""
        return self._second

    def idle(self, now: float) -> bool:
        """True if all rates are 0, and stay 0 until more bytes arrive."""
        return now >= self._second + _KEPT + 1

    def rest(self) -> None:
        """Free the memory of all seconds. Call this only while the meter is :meth:`idle`."""
        self._buckets, self._latest, self._second = [], {}, -1

    def _begin(self, second: int) -> None:
        self._buckets = [bucket for bucket in self._buckets if bucket[0] >= second - _KEPT]
        self._second, self._latest = second, {}
        self._buckets.append((second, self._latest))


class FlowTable:
    """The meters of all downloads, by task and node."""

    def __init__(self) -> None:
        self._meters: dict[tuple[str, str], FlowMeter] = {}

    def add(self, task_id: str, node: str, provider: str, amount: int, now: float) -> None:
        """Count bytes from a provider that a node has verified."""
        meter = self._meters.get((task_id, node))
        if meter is None:
            meter = self._meters[task_id, node] = FlowMeter()
        meter.add(provider, amount, now)

    def get(self, task_id: str, node: str) -> FlowMeter | None:
        return self._meters.get((task_id, node))

    def forget(self, task_id: str, node: str) -> None:
        self._meters.pop((task_id, node), None)

    def expire(self, now: float, unfinished: Callable[[str, str], bool]) -> None:
        """Forget the meters of downloads that are finished and have no rate any more."""
        for key in [key for key, meter in self._meters.items() if meter.idle(now)]:
            if unfinished(*key):
                self._meters[key].rest()
            else:
                del self._meters[key]

    def __iter__(self) -> Iterator[tuple[str, str]]:
        """The task and node of each meter."""
        return iter(list(self._meters))
