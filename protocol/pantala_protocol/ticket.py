"""Tickets: with one, a client may read the pieces of one task from one piece server.

Each piece server (peer or supernode) shares a key with the supernode, which signs the tickets. A ticket is
``<expiry>.<mac>`` with ``mac = HMAC-SHA256(key, task ID, generation, expiry)``. The server checks it on its own.

A *reader* may precede it: ``<reader>-<expiry>.<mac>``. It marks the client that got the ticket, and proves nothing.
"""

import hashlib
import hmac

LIFETIME = 600
"""Seconds that a ticket is valid, as long as a projected token. A stolen ticket works no longer than this."""

HEADER = "X-Pantala-Ticket"


def issue(key: bytes, task_id: str, generation: str, *, now: float) -> str:
    """A ticket for one generation of one task, valid until ``now + LIFETIME`` (seconds since the epoch)."""
    end = int(now) + LIFETIME
    return f"{end}.{_mac(key, task_id, generation, end)}"


def for_reader(ticket: str, reader: str) -> str:
    """The ticket with the mark of the client that gets it."""
    return f"{reader}-{ticket}"


def reader(ticket: str) -> str:
    """The mark of the client to which a ticket was given. Empty: the ticket has no mark."""
    return ticket.rpartition("-")[0]


def expiry(ticket: str) -> int:
    """The last second at which a ticket is valid, in seconds since the epoch. Only for a ticket that was checked."""
    return int(ticket.rpartition("-")[2].partition(".")[0])


def check(key: bytes, task_id: str, generation: str, ticket: str, *, now: float) -> bool:
    """True if ``ticket`` was issued with ``key`` for this generation and has not expired. Never raises."""
    expiry_text, dot, mac = ticket.rpartition("-")[2].partition(".")
    if not dot or not expiry_text.isascii() or not expiry_text.isdigit() or len(expiry_text) > 12 or not mac.isascii():
        return False
    end = int(expiry_text)
    return hmac.compare_digest(mac, _mac(key, task_id, generation, end)) and now <= end


def _mac(key: bytes, task_id: str, generation: str, end: int) -> str:
    return hmac.new(key, f"{task_id}.{generation}.{end}".encode(), hashlib.sha256).hexdigest()
