"""What several supernodes assign to this peer, as one: the union of what each of them said last. Pure.

A task may be assigned by two at once, while it moves from one to the other. Nothing counts as unwanted until each
supernode of the membership in force spoke in knowledge of it: the one that a task moved to may be the last to say so.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from msgspec import structs

from pantala_protocol import digest, task_id
from pantala_protocol.membership import Membership
from pantala_protocol.ranges import MAX_PIECE
from pantala_protocol.sync import Assignment, Work
from pantala_protocol.wrapping import Wrapping

_MAX_PIECE_SIZE = 64 * 1024 * 1024
"""Bytes. Far above what is cut; it bounds the memory that a wrong word can take."""


class Claims:
    """Who assigns what. Supernodes are told apart by names."""

    def __init__(self) -> None:
        self.membership: Membership | None = None
        """The one in force; ``None``: there is one supernode, whose name nobody told."""
        self._claims: dict[str, dict[str, Assignment]] = {}
        self._known: dict[str, int] = {}

    @property
    def complete(self) -> bool:
        """All spoke who may assign anything: what nobody assigns is not wanted."""
        if self.membership is None:
            return bool(self._known)
        names, revision = [member.name for member in self.membership.members], self.membership.revision
        return bool(names) and all(self._known.get(name, -1) >= revision for name in names)

    def join(self, membership: Membership) -> bool:
        """Take a membership, unless it is older than the one in force. Returns whether it changed anything."""
        if self.membership is not None and membership.revision <= self.membership.revision:
            return False
        self.membership = membership
        return True

    def say(self, supernode: str, assignments: Iterable[Assignment], *, revision: int) -> None:
        """A supernode that knows the membership of ``revision`` (0: none) said all that it assigns."""
        self._known[supernode] = revision
        said = {assignment.task_id: assignment for assignment in assignments}
        self._retract(supernode, keep=said.keys())
        for name, assignment in said.items():
            self._claims.setdefault(name, {})[supernode] = assignment

    def forget(self, supernode: str) -> None:
        """A supernode has no say any more."""
        self._known.pop(supernode, None)
        self._retract(supernode)

    @property
    def supernodes(self) -> frozenset[str]:
        """All who said anything."""
        return frozenset(self._known)

    def of(self, task_id: str) -> Collection[str]:
        """The supernodes that assign a task."""
        return self._claims.get(task_id, {}).keys()

    def assigned(self) -> dict[str, Assignment]:
        """What is in force, by task ID."""
        return {name: _join(list(claims.values())) for name, claims in self._claims.items()}

    def _retract(self, supernode: str, keep: Collection[str] = ()) -> None:
        for name in [name for name, claims in self._claims.items() if supernode in claims and name not in keep]:
            del self._claims[name][supernode]
            if not self._claims[name]:
                del self._claims[name]


def _join(claims: list[Assignment]) -> Assignment:
    """Several claims of one task, oldest first, as one.

    The content is that of the first one who knows any. What others know of the same content counts too: whoever has it
    all first tells the digest. A file appears wherever anybody wants it.
    """
    if len(claims) == 1:
        return claims[0]
    first = next((claim for claim in claims if claim.generation), claims[0])
    content = (first.generation, first.piece_size)
    same = [claim for claim in claims if (claim.generation, claim.piece_size) == content]
    return structs.replace(
        first,
        length=next((claim.length for claim in same if claim.length is not None), None),
        digest=next((claim.digest for claim in same if claim.digest), ""),
        deliveries=tuple({d.uid: d for claim in reversed(claims) for d in claim.deliveries}.values()),
    )


def is_sane(assignment: Assignment) -> bool:
    """Whether an assignment can be worked with: its names become paths and URLs, its sizes memory."""
    try:
        task_id.parse(assignment.task_id)
        if assignment.digest:
            digest.parse(assignment.digest)
    except ValueError:
        return False
    return 0 <= assignment.piece_size <= _MAX_PIECE_SIZE and (assignment.length is None or assignment.length >= 0)


def fits(work: Work, assignment: Assignment) -> bool:
    """Whether a piece that is given can be one of what is assigned."""
    size = assignment.piece_size
    return (
        work.generation == assignment.generation
        and 0 <= work.piece <= MAX_PIECE
        and 0 < work.size <= size
        and work.offset == work.piece * size
        and (not work.path or (work.path.startswith("/") and work.wire_size == Wrapping(size).wire_size))
    )
