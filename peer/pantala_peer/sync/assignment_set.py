"""Merges the assignments of several supernodes into one set. Pure.

Two supernodes may assign the same task while its owner changes. A task counts as unwanted only when each supernode of
the current membership has sent its assignments. The new owner may be the last one to send them.
"""

from collections.abc import Collection, Iterable

from msgspec import structs

from pantala_protocol import digest, task_id
from pantala_protocol.geometry import Wrapping
from pantala_protocol.ranges import MAX_PIECE
from pantala_protocol.statement import Membership
from pantala_protocol.sync import Assignment, PieceWork

_MAX_PIECE_SIZE = 64 * 1024 * 1024
"""The largest accepted piece in bytes. This limits the memory that a wrong assignment can use."""


class AssignmentSet:
    """The assignments of each supernode, by its name."""

    def __init__(self) -> None:
        self.membership: Membership | None = None
        """The newest membership. ``None`` if there is only one supernode, without a name."""
        self._assigned: dict[str, dict[str, Assignment]] = {}
        self._revisions: dict[str, int] = {}

    @property
    def complete(self) -> bool:
        """True if all supernodes have sent their assignments, so that a task without assignment is unwanted."""
        if self.membership is None:
            return bool(self._revisions)
        names, revision = [member.name for member in self.membership.members], self.membership.revision
        return bool(names) and all(self._revisions.get(name, -1) >= revision for name in names)

    def join(self, membership: Membership) -> bool:
        """Store a membership. Returns False, and changes nothing, if it is not newer."""
        if self.membership is not None and membership.revision <= self.membership.revision:
            return False
        self.membership = membership
        return True

    def update(self, supernode: str, assignments: Iterable[Assignment], *, revision: int) -> None:
        """Replace a supernode's assignments. ``revision`` is the revision of its membership; 0 without membership."""
        self._revisions[supernode] = revision
        assigned = {assignment.task_id: assignment for assignment in assignments}
        self._retract(supernode, keep=assigned.keys())
        for name, assignment in assigned.items():
            self._assigned.setdefault(name, {})[supernode] = assignment

    def remove(self, supernode: str) -> None:
        """Remove a supernode and its assignments."""
        self._revisions.pop(supernode, None)
        self._retract(supernode)

    @property
    def supernodes(self) -> frozenset[str]:
        """The names of the supernodes that have sent assignments."""
        return frozenset(self._revisions)

    def owners(self, task_id: str) -> Collection[str]:
        """The supernodes that assign a task."""
        return self._assigned.get(task_id, {}).keys()

    def joined(self) -> dict[str, Assignment]:
        """The assignments in force, by task ID."""
        return {name: _join(list(assignments.values())) for name, assignments in self._assigned.items()}

    def _retract(self, supernode: str, keep: Collection[str] = ()) -> None:
        for name in [name for name, owners in self._assigned.items() if supernode in owners and name not in keep]:
            del self._assigned[name][supernode]
            if not self._assigned[name]:
                del self._assigned[name]


def _join(assignments: list[Assignment]) -> Assignment:
    """Merge several assignments of one task, oldest first.

    The content comes from the first assignment with a known content. Further assignments with the same content add
    their length and digest. The file is published at the paths of all assignments.
    """
    if len(assignments) == 1:
        return assignments[0]
    first = next((each for each in assignments if each.generation), assignments[0])
    content = (first.generation, first.piece_size)
    same = [each for each in assignments if (each.generation, each.piece_size) == content]
    return structs.replace(
        first,
        length=next((each.length for each in same if each.length is not None), None),
        digest=next((each.digest for each in same if each.digest), ""),
        deliveries=tuple({d.uid: d for each in reversed(assignments) for d in each.deliveries}.values()),
    )


def is_valid(assignment: Assignment) -> bool:
    """True if the assignment's names are safe in paths and URLs, and its piece size is not too large for memory."""
    try:
        task_id.parse(assignment.task_id)
        if assignment.digest:
            digest.parse(assignment.digest)
    except ValueError:
        return False
    return 0 <= assignment.piece_size <= _MAX_PIECE_SIZE and (assignment.length is None or assignment.length >= 0)


def fits(work: PieceWork, assignment: Assignment) -> bool:
    """True if the work is for a piece of the assigned content: same generation, valid number and size."""
    size = assignment.piece_size
    return (
        work.generation == assignment.generation
        and 0 <= work.piece <= MAX_PIECE
        and 0 < work.size <= size
        and work.offset == work.piece * size
        and (not work.path or (work.path.startswith("/") and work.wire_size == Wrapping(size).wire_size))
    )
