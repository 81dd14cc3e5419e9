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
    expiry = int(now) + LIFETIME
    return f"{expiry}.{_mac(key, task_id, generation, expiry)}"


def for_reader(ticket: str, reader: str) -> str:
    """The ticket with the mark of the client that gets it."""
    return f"{reader}-{ticket}"


def reader(ticket: str) -> str:
    """The mark of the client to which a ticket was given. Empty: the ticket has no mark."""
    return ticket.rpartition("-")[0]


def check(key: bytes, task_id: str, generation: str, ticket: str, *, now: float) -> bool:
    """True if ``ticket`` was issued with ``key`` for this generation and has not expired. Never raises."""
    expiry_text, dot, mac = ticket.rpartition("-")[2].partition(".")
    if not dot or not expiry_text.isascii() or not expiry_text.isdigit() or len(expiry_text) > 12 or not mac.isascii():
        return False
    expiry = int(expiry_text)
    return hmac.compare_digest(mac, _mac(key, task_id, generation, expiry)) and now <= expiry


def _mac(key: bytes, task_id: str, generation: str, expiry: int) -> str:
    return hmac.new(key, f"{task_id}.{generation}.{expiry}".encode(), hashlib.sha256).hexdigest()
