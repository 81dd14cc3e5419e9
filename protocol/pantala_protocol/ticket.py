"""Tickets. A client with a ticket may read the pieces of one task from one piece server.

Each piece server (peer or supernode) shares a key with the supernode, which signs the tickets. A ticket is
``<expiry>.<mac>`` with ``mac = HMAC-SHA256(key, task ID, generation, expiry, client)``. The piece server checks it.

With TLS, ``client`` is the name in the certificate of the client that got the ticket, so no other client can use it. On
plain HTTP it is empty, because the server cannot know the client.

The client's *mark* may precede the ticket: ``<mark>-<expiry>.<mac>``. It is random, and only the supernode and the
client that got the ticket know it.
"""

import hashlib
import hmac

LIFETIME = 600
"""Seconds that a ticket is valid. The projected tokens of the processes are valid as long."""

HEADER = "X-Pantala-Ticket"


def issue(key: bytes, task_id: str, generation: str, *, now: float, client: str = "") -> str:
    """A ticket for one generation of one task, valid until ``now + LIFETIME`` (seconds since the epoch).

    ``client``: the name in the certificate of the only client that may use it. Empty: each client may.
    """
    end = int(now) + LIFETIME
    return f"{end}.{_mac(key, task_id, generation, end, client)}"


def for_reader(ticket: str, reader: str) -> str:
    """The ticket with the client's mark ``reader`` before it."""
    return f"{reader}-{ticket}"


def reader(ticket: str) -> str:
    """The mark of the client to which a ticket was given. Empty: the ticket has no mark."""
    return ticket.rpartition("-")[0]


def expiry(ticket: str) -> int:
    """The last second at which a ticket is valid, in seconds since the epoch. Only for a ticket that was checked."""
    return int(ticket.rpartition("-")[2].partition(".")[0])


def check(key: bytes, task_id: str, generation: str, ticket: str, *, now: float, client: str = "") -> bool:
    """True if ``ticket`` was issued with ``key`` for this generation and this client, and is valid. Never raises."""
    expiry_text, dot, mac = ticket.rpartition("-")[2].partition(".")
    if not dot or not expiry_text.isascii() or not expiry_text.isdigit() or len(expiry_text) > 12 or not mac.isascii():
        return False
    end = int(expiry_text)
    return hmac.compare_digest(mac, _mac(key, task_id, generation, end, client)) and now <= end


def _mac(key: bytes, task_id: str, generation: str, end: int, client: str) -> str:
    bound = f".{client}" if client else ""
    return hmac.digest(key, f"{task_id}.{generation}.{end}{bound}".encode(), hashlib.sha256).hex()
