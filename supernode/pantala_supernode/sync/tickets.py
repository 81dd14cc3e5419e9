"""Issues tickets for piece servers, and has the address of the supernode's own piece server."""

from collections.abc import Callable
from dataclasses import dataclass

from pantala_process.tls.contexts import TLSContexts
from pantala_protocol import ticket

_REUSED_FOR = ticket.LIFETIME / 2
"""Seconds for which a ticket is reused. A ticket is valid for at least as many more seconds when it is sent."""

_MOST = 65_536
"""The most tickets in the cache. They take about 30 MiB."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The address and the ticket key of the supernode's own piece server."""

    address: str
    port: int
    key: bytes
    tls: TLSContexts | None = None

    @property
    def name(self) -> str:
        """The name in the supernode's certificate. Empty: pieces are served over plain HTTP."""
        return "" if self.tls is None else self.tls.name


class TicketCache:
    """Tickets for piece servers. They are reused for a while, because to sign a ticket takes longer than to schedule.

    With TLS, each client has its own tickets. If the cache is full, it is emptied.

    ``clock`` returns seconds since the epoch.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._issued: dict[tuple[bytes, str, str, str, int], tuple[float, str]] = {}
        self._expired_at = clock()

    def ticket(self, key: bytes, task_id: str, generation: str, client: str = "", *, ahead: float = 0.0) -> str:
        """A ticket. ``client``: the name in the certificate of the only client that may use it.

        ``ahead``: the seconds by which the clock of the server that checks the ticket is ahead. They are rounded to
        minutes, because a ticket is valid for ten minutes.
        """
        now, minutes = self._clock(), round(ahead / 60)
        issued_at, text = self._issued.get((key, task_id, generation, client, minutes), (0.0, ""))
        if not 0 <= now - issued_at < _REUSED_FOR:
            text = ticket.issue(key, task_id, generation, now=now + 60 * minutes, client=client)
            if len(self._issued) >= _MOST:
                self._issued.clear()
            self._issued[key, task_id, generation, client, minutes] = (now, text)
        return text

    def expire(self) -> None:
        """Forget old tickets. Most calls do nothing, because to check many tickets takes time."""
        now = self._clock()
        if 0 <= now - self._expired_at < _REUSED_FOR / 4:
            return
        self._expired_at = now
        self._issued = {key: issued for key, issued in self._issued.items() if 0 <= now - issued[0] < _REUSED_FOR}
