"""Which client may read which bytes, because of which evidence, and until when. Pure.

A right to the bytes of a blob needs two kinds of evidence at once:

1. *The bytes come from a repository.* Each copy lists its *origins*: the repositories that sent all of its bytes, or
   that sent the whole blob to the supernode, which verified it. A copy that is not verified has only one origin.
2. *That repository's registry allows the client.* Its answer to the client's credential is a :class:`Right`.

A right to a blob is for one *generation*, which is one copy of its bytes. So if a registry sends false bytes, it gives
no right to another copy. A client that only knows a digest has no evidence. The supernode finds evidence, and decides.
The peer only caches the decisions of the supernode.
"""

import hashlib
from collections.abc import Collection
from enum import Enum, StrEnum, auto
from typing import Final, NamedTuple, NewType, TypeVar

SECONDS: Final = 300.0
"""A right ends this many seconds after its evidence, also if a client uses it. Most tokens are valid as long."""

ORIGINS: Final = 256
"""The most origins of one copy. An older origin is forgotten, and must send the blob again to count."""

_T = TypeVar("_T")
_LIMIT: Final = 100_000
"""The most rights that a process keeps, and the most refusals. The oldest are forgotten."""

Subject = NewType("Subject", bytes)
"""A client of a repository, as a keyed hash. It contains no credential."""


class EvidenceKind(StrEnum):
    """Why a client has a right."""

    ALLOWED = "allowed"
    """The registry answered that the client's credential may read the content."""
    SENT = "sent"
    """The registry sent the content to the supernode for the client's credential."""
    DECIDED = "decided"
    """A supernode has decided that the client may read the content. Only peers use this evidence."""


class Right(NamedTuple):
    """The right of a subject to read one blob or one manifest."""

    evidence: EvidenceKind
    until: float
    """When the right ends, in monotonic seconds."""
    generation: str = ""
    """The generation of the blob that may be read. Empty: the right is to a manifest."""
    origin: str = ""
    """The repository whose registry allows the client, if it is not the repository that the client names."""


class Rights:
    """The rights and refusals of subjects. A ``thing`` is a digest or a tag. ``now`` is always in monotonic seconds.

    ``key`` is the random key of the hashes. It never leaves the process.
    """

    def __init__(self, key: bytes, *, limit: int = _LIMIT) -> None:
        self._key = key
        self._limit = limit
        self._rights: dict[tuple[Subject, str], Right] = {}
        self._refusals: dict[tuple[Subject, str], float] = {}

    def subject(self, repository: str, credential: str = "") -> Subject:
        """The client with ``credential`` at ``repository``. An empty credential stands for all clients (the public)."""
        return self._hash(b"client", repository, credential)

    def everyone(self, registry: str) -> Subject:
        """All clients of a registry together. They are refused for some time after the registry sent wrong bytes."""
        return self._hash(b"registry", registry)

    def grant(
        self,
        subject: Subject,
        thing: str,
        evidence: EvidenceKind,
        now: float,
        *,
        seconds: float = SECONDS,
        generation: str = "",
        origin: str = "",
    ) -> None:
        """Give a right for at most :data:`SECONDS`, and forget a refusal."""
        self._refusals.pop((subject, thing), None)
        _put(
            self._rights,
            (subject, thing),
            Right(evidence, now + min(seconds, SECONDS), generation, origin),
            self._limit,
        )

    def refuse(self, subject: Subject, thing: str, now: float) -> None:
        """End a right. For :data:`SECONDS`, the subject is refused and the registry is not asked."""
        self.revoke(subject, thing)
        _put(self._refusals, (subject, thing), now + SECONDS, self._limit)

    def revoke(self, subject: Subject, thing: str) -> None:
        """End a right. The next claim needs new evidence."""
        self._rights.pop((subject, thing), None)

    def find(self, subject: Subject, thing: str, now: float) -> Right | None:
        found = self._rights.get((subject, thing))
        if found is not None and found.until <= now:
            del self._rights[subject, thing]
            return None
        return found

    def is_refused(self, subject: Subject, thing: str, now: float) -> bool:
        until = self._refusals.get((subject, thing))
        if until is not None and until <= now:
            del self._refusals[subject, thing]
            return False
        return until is not None

    def _hash(self, kind: bytes, *parts: str) -> Subject:
        encoded = [kind, *(part.encode("utf-8", "surrogateescape") for part in parts)]
        framed = b"".join(len(data).to_bytes(8, "big") + data for data in encoded)
        return Subject(hashlib.blake2b(framed, key=self._key, digest_size=32).digest())


class BlobClaim(NamedTuple):
    """A client's wish to read a blob."""

    repository: str
    """The repository that the client names, as ``registry/repository``."""
    digest: str
    client: Subject


class HeldBlob(NamedTuple):
    """What is known about a copy of a blob."""

    generation: str = ""
    """Identifies the content of the copy. Empty without a copy."""
    origins: Collection[str] = ()
    """The repositories that sent all bytes of this copy, or that sent the whole blob, which was verified."""
    whole: bool = False
    """True if all bytes are there and have the digest."""


class Ruling(Enum):
    """What follows from the evidence about a claim."""

    GIVE = auto()
    """The client may read the copy."""
    REFUSE = auto()
    """The client may not read the blob. It was refused less than :data:`SECONDS` ago, so ask no registry."""
    ASK = auto()
    """Ask the claim's registry whether it allows the client."""
    PROVE = auto()
    """Ask the origins at the same registry if they allow the client. If not, the claim's repository must send the blob.
    """
    WAIT = auto()
    """Ask later: the copy comes from another repository and is not verified yet, or no copy exists."""


def related(claim: BlobClaim, origins: Collection[str]) -> list[str]:
    """The origins at the registry of the claim, the latest first. A registry's repositories share blobs."""
    registry = claim.repository.partition("/")[0]
    return [origin for origin in reversed(tuple(origins)) if origin.partition("/")[0] == registry]


def standing(rights: Rights, claim: BlobClaim, blob: HeldBlob, now: float) -> Right | None:
    """The right by which a client may read a copy.

    If a registry gives the blob to the public in one of its repositories, each client of that registry may read it.
    """
    if not blob.generation:
        return None
    own = rights.find(claim.client, claim.digest, now)
    if own is not None and own.generation == blob.generation and (own.origin or claim.repository) in blob.origins:
        return own
    for origin in related(claim, blob.origins):
        right = rights.find(rights.subject(origin), claim.digest, now)
        if right is not None and right.generation == blob.generation:
            return right
    return None


def rule(rights: Rights, claim: BlobClaim, blob: HeldBlob, now: float) -> Ruling:
    """Decide about a claim."""
    if standing(rights, claim, blob, now) is not None:
        return Ruling.GIVE
    if rights.is_refused(claim.client, claim.digest, now):
        return Ruling.REFUSE
    if blob.generation and claim.repository in blob.origins:
        return Ruling.ASK
    return Ruling.PROVE if blob.whole else Ruling.WAIT


def _put(table: dict[tuple[Subject, str], _T], key: tuple[Subject, str], value: _T, limit: int) -> None:
    table.pop(key, None)
    if len(table) >= limit:
        del table[next(iter(table))]
    table[key] = value
