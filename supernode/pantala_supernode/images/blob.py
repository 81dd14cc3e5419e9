"""One leased blob: the peers and clients that wait for it, and its sources, which take turns. Pure."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, Self

from pantala_protocol.rules.rights import BlobClaim, Right
from pantala_supernode.tasks.copy import Copy, FileSource
from pantala_supernode.tasks.task import Task

_TURN = 2.0
"""Seconds of a period. A source that is slow for a period loses its turn if another registry offers a source."""
_LEAST = 256 * 1024
"""The bytes per second that a source needs to keep its turn."""


class KeptBlob(NamedTuple):
    """A kept blob, as the ledger records it for the next process. It contains no secret."""

    digest: str
    generation: str
    """The generation of the copy. Only admitted peers know it."""
    idle: float
    """Seconds since a peer last waited for the blob."""


class Offer(NamedTuple):
    """One source of a blob, and the claim of the client whose credential the source uses."""

    source: FileSource
    claim: BlobClaim

    @property
    def registry(self) -> str:
        return self.claim.repository.partition("/")[0]


@dataclass(slots=True, eq=False)
class Question:
    """A client's question whether it may read the blob. ``answer`` is called once. ``None``: the client may not."""

    peer: str
    offers: tuple[Offer, ...]
    answer: Callable[[Right | None], None]


@dataclass(slots=True)
class Turn:
    """The turn of a source. It consists of periods of :data:`_TURN` seconds."""

    offer: Offer
    begun: float
    """When the current period began, in monotonic seconds."""
    received: int
    """The most bytes that the copy had before the current period. Bytes that are sent again are not progress."""

    def is_slow(self, now: float, received: int) -> bool:
        """True if a period has ended with too few bytes. After each period, the next period begins."""
        passed = now - self.begun
        if passed < _TURN:
            return False
        slow = received - self.received < passed * _LEAST
        self.begun, self.received = now, max(self.received, received)
        return slow


class AdmissionBasis(NamedTuple):
    """The facts, besides rights, on which a decision about waiting peers depends. Most pieces do not change them."""

    generation: str
    origins: tuple[str, ...]
    client: str
    measured: bool
    whole: bool

    @classmethod
    def of(cls, task: Task) -> Self:
        copy = task.copy
        return cls(copy.generation, copy.origins, copy.client, copy.length is not None, task.complete)


@dataclass(slots=True)
class LeasedBlob:
    """One blob, the peers and clients that wait for it, and its sources."""

    digest: str
    waiting: dict[str, tuple[Offer, ...]] = field(default_factory=dict)
    """The sources that each waiting peer offers."""
    questions: list[Question] = field(default_factory=list)
    """The open questions of clients."""
    turn: Turn | None = None
    """The turn of the source from which the blob is being fetched."""
    turns: Counter[str] = field(default_factory=Counter)
    """How many turns the sources of each peer have had."""
    basis: AdmissionBasis | None = None
    """The facts of the last decision about waiting peers."""
    seen: tuple[str, int] | None = None
    """The generation and the pieces (bit mask) of the copy at its last change. ``None``: no change was seen yet."""
    slow: set[str] = field(default_factory=set)
    """The registries that lost a turn because they were slow."""
    failed: set[bytes] = field(default_factory=set)
    """The clients whose sources failed. They are used again once no peer or client has waited for the blob."""
    attempt: int = 1
    wanted_at: float = 0.0
    restored: str | None = None
    """The generation of the copy, if an earlier process kept it."""

    @property
    def idle(self) -> bool:
        return not (self.waiting or self.questions)

    def offered(self) -> Iterator[tuple[str, Offer]]:
        """All sources, each with the peer that offers it."""
        for peer, offers in self.waiting.items():
            yield from ((peer, offer) for offer in offers)
        for question in self.questions:
            yield from ((question.peer, offer) for offer in question.offers)

    def has_grown(self, copy: Copy) -> bool:
        """True if pieces have arrived since the last change. The first change only records the present pieces."""
        before, self.seen = self.seen, (copy.generation, copy.cached)
        if before is None:
            return False
        return bool(copy.cached & ~(before[1] if before[0] == copy.generation else 0))

    def rest(self, now: float) -> None:
        """Record that a peer or client has stopped waiting."""
        self.wanted_at = now
        if self.idle:
            self.failed.clear()
            self.slow.clear()
            self.turns.clear()
