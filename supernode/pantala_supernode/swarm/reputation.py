"""Which peers serve badly: they are offered to nobody for a while, then tried with one piece at a time. Pure.

Failures and successes fade with time, so that a rate is that of the last minutes. One client alone cannot bring a peer
down: what each says counts up to a bound, and what one says who complains of everybody counts less and less.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How much is borne."""

    rate: float = 0.25
    """Share of failures from which on a peer is out."""
    evidence: float = 4.0
    """Failures that must be known at least. A wrong piece counts as two: a link does not make those."""
    voice: float = 2.0
    """Of them, how many one client's word may make up: half, so that it takes two."""
    memory: float = 16.0
    """Successes that are remembered at most: what a peer did well long ago is no excuse."""
    half_life: float = 60.0
    """Seconds after which half of anything is forgotten."""
    out_seconds: float = 60.0
    """A peer is out for so long the first time; each time that it fails its probation, for twice as long."""
    longest_out: float = 960.0
    probation: int = 4
    """Pieces that it must serve well, one at a time, before it is trusted as before."""


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
    """What is known of one peer as a provider."""

    served: _Faded = field(default_factory=_Faded)
    accusers: dict[str, _Faded] = field(default_factory=dict)
    out_until: float = 0.0
    terms: int = 0
    """How often in a row it was put out."""
    owed: int = 0
    """Pieces that it must still serve well until it is trusted."""


class Reputation:
    """Every peer's, as others tell it. ``now`` is in monotonic seconds."""

    def __init__(self, tolerance: Tolerance) -> None:
        self._tolerance = tolerance
        self._records: dict[str, _Record] = {}
        self._complaints: dict[str, _Faded] = {}
        """By who complains."""
        self._taken: dict[str, _Faded] = {}
        """What those who ever complained took well."""

    def allows(self, provider: str, slots: int, *, now: float) -> int:
        """How many pieces may be booked at a provider that serves ``slots`` at once."""
        record = self._records.get(provider)
        if record is None or not record.terms:
            return slots
        if record.out_until > now:
            return 0
        return min(1, slots) if record.owed else slots

    def served(self, provider: str, client: str, *, now: float) -> None:
        """A client took a piece from a provider, and it was right."""
        tolerance = self._tolerance
        record = self._record(provider)
        record.served.add(1.0, tolerance.memory, now, tolerance.half_life)
        taken = self._taken.get(client)
        if taken is not None:
            taken.add(1.0, tolerance.memory, now, tolerance.half_life)
        if record.owed and record.out_until <= now:
            record.owed -= 1
            if not record.owed:
                record.terms = 0

    def failed(self, provider: str, client: str, *, corrupt: bool, now: float) -> None:
        """A client says that a provider failed it; ``corrupt``: its bytes were wrong."""
        tolerance = self._tolerance
        record = self._record(provider)
        weight = self._weight(client, now) * (2.0 if corrupt else 1.0)
        accuser = record.accusers.setdefault(client, _Faded())
        accuser.add(weight, tolerance.voice, now, tolerance.half_life)
        if record.out_until > now:
            return
        failures = sum(voice.value(now, tolerance.half_life) for voice in record.accusers.values())
        served = record.served.value(now, tolerance.half_life)
        # fading must not make two full voices of the same second a hair too little
        enough = failures >= tolerance.evidence * 0.9 and failures >= tolerance.rate * (failures + served)
        if enough or (record.owed and weight >= 0.5):
            self._put_out(record, now)

    def forget(self, peer: str) -> None:
        """A peer is gone: nothing is held against it any more."""
        self._records.pop(peer, None)
        self._complaints.pop(peer, None)
        self._taken.pop(peer, None)

    def expire(self, now: float) -> None:
        """Drop what has faded."""
        for record in self._records.values():
            record.accusers = self._lasting(record.accusers, now)
        self._complaints = self._lasting(self._complaints, now)
        self._taken = {name: taken for name, taken in self._taken.items() if name in self._complaints}
        self._records = {
            name: record
            for name, record in self._records.items()
            if record.accusers or record.terms or record.served.value(now, self._tolerance.half_life) > 0.1
        }

    def _record(self, provider: str) -> _Record:
        record = self._records.get(provider)
        if record is None:
            record = self._records[provider] = _Record()
        return record

    def _weight(self, client: str, now: float) -> float:
        """What a client's word counts: the share of what it took that it does not complain of."""
        half_life = self._tolerance.half_life
        complaints = self._complaints.setdefault(client, _Faded())
        taken = self._taken.setdefault(client, _Faded())
        well = 1.0 + taken.value(now, half_life)
        weight = well / (well + complaints.value(now, half_life))
        complaints.add(1.0, self._tolerance.memory, now, half_life)
        return weight

    def _put_out(self, record: _Record, now: float) -> None:
        tolerance = self._tolerance
        record.out_until = now + min(tolerance.longest_out, tolerance.out_seconds * 2.0 ** min(record.terms, 30))
        record.terms += 1
        record.owed = tolerance.probation
        record.accusers.clear()
        record.served = _Faded()

    def _lasting(self, numbers: dict[str, _Faded], now: float) -> dict[str, _Faded]:
        return {name: each for name, each in numbers.items() if each.value(now, self._tolerance.half_life) > 0.1}
