"""The supernodes of one cluster, and which of them a task belongs to. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import msgspec


class Member(msgspec.Struct, frozen=True, omit_defaults=True):
    """One supernode."""

    name: str
    """Its pod's name: it stays when the pod starts anew, and so do its volume and its tasks."""
    url: str
    """Base URL of its API, for operator, peers and the other supernodes."""
    leaving: bool = False
    """It gives its tasks away and takes none; those who speak with it still do."""


class Membership(msgspec.Struct, frozen=True):
    """All supernodes, as the operator sees them; it tells the supernodes, and they tell the peers."""

    revision: int
    """Grows with each change, also over a restart of the operator: of two the greater one holds."""
    members: tuple[Member, ...]

    def owner(self, task_id: str) -> Member | None:
        """The member that a task belongs to; ``None`` if there is none that stays."""
        staying = {member.name: member for member in self.members if not member.leaving}
        name = owner(task_id, staying)
        return None if name is None else staying[name]

    def member(self, name: str) -> Member | None:
        """The member of that name."""
        return next((member for member in self.members if member.name == name), None)


def owner(task_id: str, names: Iterable[str]) -> str | None:
    """Whose a task is, by rendezvous hash: one more name takes its own share from all, and nothing else moves."""
    return max(names, key=lambda name: (hashlib.sha256(f"{task_id} {name}".encode()).digest(), name), default=None)
