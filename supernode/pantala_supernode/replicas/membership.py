"""Who the supernodes are, and which of them this one is. Pure."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog

from pantala_protocol.membership import Member, Membership
from pantala_protocol.statement import Statement


class ReplicaSet:
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


_log = structlog.get_logger(__name__)

_WORD = 5.0
"""Seconds in which the operator says that this supernode leaves: it looks every two. A plain restart costs as much."""
_LOOK = 0.1
"""Seconds between two looks."""


class Handover:
    """Waits for what is still to be given away. ``is_over`` tells whether that is nothing, any more."""

    def __init__(self, members: ReplicaSet, is_over: Callable[[], bool], *, patience: float) -> None:
        self._members = members
        self._is_over = is_over
        self._patience = patience

    async def wait(self, at_once: asyncio.Event) -> None:
        """Wait until the supernode may end: right now if nobody takes its place, or ``at_once``, whatever is left."""
        if self._members.may_leave:
            await self._until(lambda: self._members.leaving, _WORD, at_once)
        if not self._members.leaving or at_once.is_set():
            return
        _log.info("leaving: serving until the tasks have moved")
        if await self._until(self._is_over, self._patience, at_once):
            _log.info("left: nothing is wanted of this supernode any more")
        else:
            _log.warning("left before all tasks had moved; their new owners go on at the origin")

    async def _until(self, condition: Callable[[], bool], seconds: float, at_once: asyncio.Event) -> bool:
        deadline = time.monotonic() + seconds
        while not condition():
            if at_once.is_set() or time.monotonic() >= deadline:
                return False
            await asyncio.sleep(_LOOK)
        return True
