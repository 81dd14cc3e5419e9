"""Excludes providers that serve badly for a while. After that, each sends one piece at a time, on probation. Pure.

Failures and successes lose weight with time, so only the last minutes count. One peer alone cannot exclude a provider:
the failures that one peer reports count up to a limit. They count less if the peer reports failures of all providers.
"""

from dataclasses import dataclass, field

from pantala_process.backoff import doubled


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How many failures exclude a provider, and for how long."""

    rate: float = 0.25
    """The part of all pieces, from 0 to 1, that must fail before a provider is excluded."""
    evidence: float = 4.0
    """The fewest failures that exclude a provider. A wrong piece counts as two: a bad link does not cause it."""
    voice: float = 2.0
    """The most failures that count from one peer, so that one peer cannot exclude a provider."""
    memory: float = 16.0
    """The most successes that count, so that a long good service does not hide new failures."""
    half_life: float = 60.0
    """Seconds after which a failure or a success has half of its weight."""
    out_seconds: float = 60.0
    """Seconds of the first exclusion. Each failed probation doubles the time, up to ``longest_out``."""
    longest_out: float = 960.0
    probation: int = 4
    """The number of pieces that a provider must serve well, one at a time, after an exclusion."""


@dataclass(slots=True)
class _Faded:
    """A number that decays by half in each half-life."""

    amount: float = 0.0
    at: float = 0.0

    def value(self, now: float, half_life: float) -> float:
        return self.amount * 0.5 ** (max(0.0, now - self.at) / half_life) if self.amount else 0.0

    def add(self, more: float, most: float, now: float, half_life: float) -> None:
        self.amount, self.at = min(most, self.value(now, half_life) + more), now


@dataclass(slots=True)
class _Record:
    """How one provider has served others."""

    served: _Faded = field(default_factory=_Faded)
    accusers: dict[str, _Faded] = field(default_factory=dict)
    out_until: float = 0.0
    terms: int = 0
    """The number of exclusions since the last passed probation."""
    owed: int = 0
    """How many pieces the provider must still serve well on probation."""


class Reputation:
    """The reputation of every provider. ``now`` is in monotonic seconds."""

    def __init__(self, tolerance: Tolerance) -> None:
        self._tolerance = tolerance
        self._records: dict[str, _Record] = {}
        self._complaints: dict[str, _Faded] = {}
        """The failures that each peer reported about any provider."""
        self._taken: dict[str, _Faded] = {}
        """The pieces that each of these peers received without a failure."""

    def allows(self, provider: str, slots: int, *, now: float) -> int:
        """How many pieces others may take at once from a provider that can serve ``slots``: 0 while it is excluded."""
        record = self._records.get(provider)
        if record is None or not record.terms:
            return slots
        if record.out_until > now:
            return 0
        return min(1, slots) if record.owed else slots

    def served(self, provider: str, peer: str, *, now: float) -> None:
        tolerance = self._tolerance
        record = self._records.setdefault(provider, _Record())
        record.served.add(1.0, tolerance.memory, now, tolerance.half_life)
        taken = self._taken.get(peer)
        if taken is not None:
            taken.add(1.0, tolerance.memory, now, tolerance.half_life)
        if record.owed and record.out_until <= now:
            record.owed -= 1
            if not record.owed:
                record.terms = 0

    def failed(self, provider: str, peer: str, *, corrupt: bool, now: float) -> None:
        """Record that a peer did not receive a piece from a provider. ``corrupt``: it received wrong bytes."""
        tolerance = self._tolerance
        record = self._records.setdefault(provider, _Record())
        weight = self._weight(peer, now) * (2.0 if corrupt else 1.0)
        accuser = record.accusers.setdefault(peer, _Faded())
        accuser.add(weight, tolerance.voice, now, tolerance.half_life)
        if record.out_until > now:
            return
        failures = sum(voice.value(now, tolerance.half_life) for voice in record.accusers.values())
        served = record.served.value(now, tolerance.half_life)
        # 0.9: the failures of two peers lose a little weight between two calls
        enough = failures >= tolerance.evidence * 0.9 and failures >= tolerance.rate * (failures + served)
        if enough or (record.owed and weight >= 0.5):
            self._exclude(record, now)

    def forget(self, peer: str) -> None:
        self._records.pop(peer, None)
        self._complaints.pop(peer, None)
        self._taken.pop(peer, None)

    def expire(self, now: float) -> None:
        for record in self._records.values():
            record.accusers = self._lasting(record.accusers, now)
        self._complaints = self._lasting(self._complaints, now)
        self._taken = {name: taken for name, taken in self._taken.items() if name in self._complaints}
        self._records = {
            name: record
            for name, record in self._records.items()
            if record.accusers or record.terms or record.served.value(now, self._tolerance.half_life) > 0.1
        }

    def _weight(self, peer: str, now: float) -> float:
        """The weight of a failure that the peer reports: the part of its pieces that it received without a failure."""
        half_life = self._tolerance.half_life
        complaints = self._complaints.setdefault(peer, _Faded())
        well = 1.0 + self._taken.setdefault(peer, _Faded()).value(now, half_life)
        weight = well / (well + complaints.value(now, half_life))
        complaints.add(1.0, self._tolerance.memory, now, half_life)
        return weight

    def _exclude(self, record: _Record, now: float) -> None:
        tolerance = self._tolerance
        record.terms += 1
        record.out_until = now + doubled(tolerance.out_seconds, tolerance.longest_out, record.terms)
        record.owed = tolerance.probation
        record.accusers.clear()
        record.served = _Faded()

    def _lasting(self, numbers: dict[str, _Faded], now: float) -> dict[str, _Faded]:
        return {name: each for name, each in numbers.items() if each.value(now, self._tolerance.half_life) > 0.1}
