"""What a statement, a lease or the time changed about the tasks. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from pantala_protocol.task_id import TaskID


@dataclass(frozen=True, slots=True)
class Restated:
    """What a statement or the end of a grace period changed."""

    tasks: frozenset[TaskID] = frozenset()
    """Tasks that are wanted in another way than before."""
    deleted: frozenset[TaskID] = frozenset()
    """Tasks that nobody wants any more; their copies go."""
    retired: frozenset[TaskID] = frozenset()
    """Tasks that nobody wants any more either, but whose copies stay as a cache."""
    dropped: frozenset[str] = frozenset()
    """UIDs that are no longer wanted."""
    peers: frozenset[str] = frozenset()
    """Peers that something changed for."""


@dataclass(slots=True)
class Changes:
    """They are gathered here."""

    tasks: set[TaskID] = field(default_factory=set)
    deleted: set[TaskID] = field(default_factory=set)
    retired: set[TaskID] = field(default_factory=set)
    dropped: set[str] = field(default_factory=set)
    peers: set[str] = field(default_factory=set)

    def frozen(self) -> Restated:
        """All of them."""
        return Restated(
            frozenset(self.tasks),
            frozenset(self.deleted),
            frozenset(self.retired),
            frozenset(self.dropped),
            frozenset(self.peers),
        )
