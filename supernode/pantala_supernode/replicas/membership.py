"""Who the supernodes are, and which of them this one is. Pure."""

from __future__ import annotations

from pantala_protocol.membership import Member, Membership
from pantala_protocol.statement import Statement


class Members:
    """What the operator said last of all supernodes. Until it did, or if it names none, this is the only one."""

    def __init__(self) -> None:
        self.membership: Membership | None = None
        """In force; ``None``: there is no other supernode."""
        self.name = ""
        """This supernode's, among them."""

    def take(self, statement: Statement) -> bool:
        """Take what a statement says, unless something newer is known. Returns whether that changed anything."""
        before, said = self.membership, statement.membership
        if said is not None and before is not None and said.revision < before.revision:
            return False
        self.membership, self.name = said, statement.member if said is not None else ""
        return said != before

    @property
    def others(self) -> tuple[Member, ...]:
        """All but this one, those that leave, too."""
        members = self.membership.members if self.membership is not None else ()
        return tuple(member for member in members if member.name != self.name)

    @property
    def leaving(self) -> bool:
        """This one is to give its tasks away, and there is somebody to take them."""
        own = self.membership.member(self.name) if self.membership is not None else None
        return own is not None and own.leaving and any(not other.leaving for other in self.others)

    @property
    def may_leave(self) -> bool:
        """Whether it may yet be said that this one leaves: not of the first, which is scaled away last."""
        members = self.membership.members if self.membership is not None else ()
        return len(members) > 1 and members[0].name != self.name

    def other_owner(self, task_id: str) -> Member | None:
        """Whom a task belongs to, if that is another one."""
        owner = self.membership.owner(task_id) if self.membership is not None else None
        return None if owner is None or owner.name == self.name else owner
