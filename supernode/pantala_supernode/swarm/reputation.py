"""Which providers serve badly. Such a provider is excluded for a while, then tried with one piece at a time. Pure.

Failures and successes fade with time, so a rate is that of the last minutes. One peer alone cannot exclude a provider:
the complaints of each peer count up to a bound, and those of a peer that complains of all providers count less.
"""

from dataclasses import dataclass, field

from pantala_process.backoff import doubled


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How many failures exclude a provider, and for how long."""

    rate: float = 0.25
    """The share of failures that excludes a provider."""
    evidence: float = 4.0
    """Failures that must be known at least. A wrong piece counts as two, because a bad link does not cause it."""
    voice: float = 2.0
    """The most failures that count from one peer. It takes two peers to exclude a provider."""
    memory: float = 16.0
    """The most successes that count: old merits excuse no failure."""
    half_life: float = 60.0
    """Seconds after which half of each number has faded."""
    out_seconds: float = 60.0
    """How long the first exclusion lasts. Each failed probation doubles it."""
    longest_out: float = 960.0
    probation: int = 4
    """Pieces that a provider must serve well, one at a time, after an exclusion."""


@dataclass(slots=True)
class _Faded:
    """A number that loses half of itself every half-life."""

    amount: float = 0.0
    at: float = 0.0

    def value(self, now: float, half_life: float) -> float:
        return self.amount * 0.5 ** (max(0.0, now - self.at) / half_life) if self.amount else 0.0

    def add(self, more: float, most: float, now: float, half_life: float) -> None:
        self.amount, self.at = min(most, self.value(now, half_life) + more), now


@dataclass(slots=True)
class _Record:
    """One provider's service."""

    served: _Faded = field(default_factory=_Faded)
    accusers: dict[str, _Faded] = field(default_factory=dict)
    out_until: float = 0.0
    terms: int = 0
    """Exclusions in a row."""
    owed: int = 0
    """Pieces that are left of the probation."""


class Reputation:
    """The reputation of every provider. ``now`` is in monotonic seconds."""

    def __init__(self, tolerance: Tolerance) -> None:
        self._tolerance = tolerance
        self._records: dict[str, _Record] = {}
        self._complaints: dict[str, _Faded] = {}
        """By the peer that complains."""
        self._taken: dict[str, _Faded] = {}
        """The right pieces that each such peer took."""

    def allows(self, provider: str, slots: int, *, now: float) -> int:
        """How many pieces may be booked at a provider that serves ``slots`` at once."""
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
        """Note that a provider failed a peer; ``corrupt``: by wrong bytes."""
        tolerance = self._tolerance
        record = self._records.setdefault(provider, _Record())
        weight = self._weight(peer, now) * (2.0 if corrupt else 1.0)
        accuser = record.accusers.setdefault(peer, _Faded())
        accuser.add(weight, tolerance.voice, now, tolerance.half_life)
        if record.out_until > now:
            return
        failures = sum(voice.value(now, tolerance.half_life) for voice in record.accusers.values())
        served = record.served.value(now, tolerance.half_life)
        # 0.9: two full voices fade a little between two calls of the same second
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
        """How much a complaint counts: the share of right pieces among all that the peer took."""
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
