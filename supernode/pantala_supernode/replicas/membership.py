"""The replicas, and how this replica leaves them."""

import asyncio
import time
from collections.abc import Callable

import structlog

from pantala_protocol.statement import Member, Membership, Statement

_log = structlog.get_logger(__name__)

_ANNOUNCEMENT = 5.0
"""Seconds in which the operator must state that a stopping replica leaves. The operator checks every 2 s."""
_ABSENCE = 20.0
"""Seconds that a stopping replica waits for a leading operator. After a crash of the leader, the next leader begins
within 15 s."""
_LOOK = 0.1


class ReplicaSet:
    """The replicas in the operator's last statement. Empty: this supernode is the only replica."""

    def __init__(self) -> None:
        self.membership: Membership | None = None
        """The membership in force. ``None``: this is the only replica."""
        self.name = ""
        """This replica's name in the membership."""

    def take(self, statement: Statement) -> bool:
        """Use the membership of a statement, unless a newer membership is known. Returns whether it changed."""
        before, membership = self.membership, statement.membership
        if membership is not None and before is not None and membership.revision < before.revision:
            return False
        self.membership, self.name = membership, statement.member if membership is not None else ""
        return membership != before

    @property
    def others(self) -> tuple[Member, ...]:
        """All other replicas, including those that are leaving."""
        members = self.membership.members if self.membership is not None else ()
        return tuple(member for member in members if member.name != self.name)

    @property
    def leaving(self) -> bool:
        """True if this replica must hand its tasks over, and another replica can take them."""
        own = self.membership.member(self.name) if self.membership is not None else None
        return own is not None and own.leaving and any(not other.leaving for other in self.others)

    @property
    def may_leave(self) -> bool:
        """True if the operator may state that this replica leaves. The first replica never leaves."""
        members = self.membership.members if self.membership is not None else ()
        return len(members) > 1 and members[0].name != self.name

    def other_owner(self, task_id: str) -> Member | None:
        owner = self.membership.owner(task_id) if self.membership is not None else None
        return None if owner is None or owner.name == self.name else owner


class Handover:
    """Delays the end of this replica until its tasks have moved to others, at most for ``patience`` seconds.

    ``is_over`` returns True if nothing is left to hand over. ``asked``: see :meth:`Overview.asked_since`.
    """

    def __init__(
        self, replicas: ReplicaSet, is_over: Callable[[], bool], asked: Callable[[float], bool], *, patience: float
    ) -> None:
        self._replicas = replicas
        self._is_over = is_over
        self._asked_since = asked
        self._patience = patience

    async def wait(self, at_once: asyncio.Event) -> None:
        """Return when the replica may end: early if no other replica takes its tasks, or when ``at_once`` is set."""
        began = time.monotonic()
        end = began + self._patience
        if self._replicas.may_leave:
            until = min(end, began + _ABSENCE)
            await self._until(lambda: self._replicas.leaving or self._asked_since(began), until, at_once)
            until = min(end, time.monotonic() + _ANNOUNCEMENT)
            await self._until(lambda: self._replicas.leaving, until, at_once)
        if not self._replicas.leaving or at_once.is_set():
            return
        _log.info("this supernode is being removed; it serves until other replicas have its tasks")
        if await self._until(self._is_over, end, at_once):
            _log.info("this supernode exits; other replicas have all its tasks")
        else:
            _log.warning("this supernode exits before all tasks have moved; other replicas read the origin")

    async def _until(self, condition: Callable[[], bool], end: float, at_once: asyncio.Event) -> bool:
        while not condition():
            if at_once.is_set() or time.monotonic() >= end:
                return False
            await asyncio.sleep(_LOOK)
        return True
