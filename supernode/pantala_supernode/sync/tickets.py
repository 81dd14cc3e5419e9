"""Tickets for piece servers, each issued once for a while: signing one per piece would cost more than scheduling it."""

from __future__ import annotations

from collections.abc import Callable

from pantala_protocol import ticket

_REUSED_FOR = ticket.LIFETIME / 2
"""Seconds: whoever gets a ticket has at least as long again to use it."""


class TicketOffice:
    """Issues tickets; ``clock`` tells seconds since the epoch."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._issued: dict[tuple[bytes, str, str], tuple[float, str]] = {}

    def ticket(self, key: bytes, task_id: str, generation: str) -> str:
        """A ticket for one generation of a task at the server that has ``key``."""
        now = self._clock()
        issued_at, text = self._issued.get((key, task_id, generation), (0.0, ""))
        if not 0 <= now - issued_at < _REUSED_FOR:
            text = ticket.issue(key, task_id, generation, now=now)
            self._issued[key, task_id, generation] = (now, text)
        return text

    def expire(self) -> None:
        """Forget tickets that are not reused any more."""
        now = self._clock()
        self._issued = {who: what for who, what in self._issued.items() if 0 <= now - what[0] < _REUSED_FOR}
