"""Events inside one supernode. ``app.py`` lists the subscribers of all events.

Publishing is synchronous: the subscribers run one after another, in the order in which they subscribed.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Generic, ParamSpec

from pantala_pieces.transfer.upload.fetches import FetchState, PieceFetch
from pantala_protocol.statement import Statement
from pantala_protocol.task_id import TaskID
from pantala_supernode.tasks.copy import Copy
from pantala_supernode.tasks.manager import TaskChanges
from pantala_supernode.tasks.task import Task

P = ParamSpec("P")

_TICK = 1.0
"""Seconds between two :attr:`Events.second_passed` events."""


class Event(Generic[P]):
    """One kind of event, and its subscribers."""

    def __init__(self) -> None:
        self._subscribers: list[Callable[P, object]] = []

    def subscribe(self, *subscribers: Callable[P, object]) -> None:
        self._subscribers += subscribers

    def publish(self, *args: P.args, **kwargs: P.kwargs) -> None:
        for subscriber in self._subscribers:
            subscriber(*args, **kwargs)

    def request(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Call the subscribers until one of them returns a true value. Returns True if one of them did."""
        return any(subscriber(*args, **kwargs) for subscriber in self._subscribers)


class Events:
    """All events of one supernode."""

    def __init__(self) -> None:
        self.volume_read: Event[[]] = Event()
        """The volume was read, so the copies on it are known."""
        self.statement_taken: Event[[Statement]] = Event()
        """A statement of the operator is in force now."""
        self.copy_reported: Event[[TaskID]] = Event()
        """The CDN has changed the state of a copy. Only the supernode subscribes; other rooms use ``copy_changed``."""
        self.copy_changed: Event[[Task, Copy]] = Event()
        """The state of a task's copy changed. The second argument is its former state."""
        self.task_changed: Event[[str]] = Event()
        """The copy or the lease of a task changed, or the task with this ID was dropped."""
        self.assignments_changed: Event[[Iterable[str] | None]] = Event()
        """The assignments of these peers may have changed. ``None``: the assignments of all peers."""
        self.orders_changed: Event[[Iterable[str] | None]] = Event()
        """The orders about images of these nodes changed. ``None``: the orders of all nodes."""
        self.piece_accused: Event[[TaskID, int]] = Event()
        """A peer or replica reports that a piece of this supernode is wrong or missing."""
        self.piece_fetched: Event[[PieceFetch, FetchState]] = Event()
        """A client began to fetch a piece from this supernode, or the fetch ended."""
        self.room_needed: Event[[]] = Event()
        """The volume is full. A subscriber ends a lease whose file is not being read, and returns whether it did so."""
        self.tenants_refused: Event[[TaskChanges]] = Event()
        """The quotas of namespaces began or ceased to refuse these tasks."""
        self.second_passed: Event[[]] = Event()
        """Published about once a second, for periodic work."""

    async def run(self) -> None:
        """Publish :attr:`second_passed` until cancelled."""
        while True:
            await asyncio.sleep(_TICK)
            self.second_passed.publish()
