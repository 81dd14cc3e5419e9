"""Tickets: a supernode's word to a piece server that the bearer may read one task.

Each piece server (peer or supernode) has a key of its own, known to it and to the supernode alone. A ticket is
``<expiry>.<mac>`` with ``mac = HMAC-SHA256(key, task ID, generation, expiry)``; it is checked without asking anybody.
"""

from __future__ import annotations

import hashlib
import hmac

LIFETIME = 600
"""Seconds a ticket is good for, as long as a projected token: what a lost node can still read afterwards."""

HEADER = "X-Pantala-Ticket"


def issue(key: bytes, task_id: str, generation: str, *, now: float) -> str:
    """Write a ticket for one generation of one task, good until ``now + LIFETIME`` (seconds since the epoch)."""
    expiry = int(now) + LIFETIME
    return f"{expiry}.{_mac(key, task_id, generation, expiry)}"


def check(key: bytes, task_id: str, generation: str, ticket: str, *, now: float) -> bool:
    """Whether ``ticket`` was issued with ``key`` for this generation of this task and has not expired. Never raises."""
    expiry_text, dot, mac = ticket.partition(".")
    if not dot or not expiry_text.isascii() or not expiry_text.isdigit() or len(expiry_text) > 12 or not mac.isascii():
        return False
    expiry = int(expiry_text)
    return hmac.compare_digest(mac, _mac(key, task_id, generation, expiry)) and now <= expiry


def _mac(key: bytes, task_id: str, generation: str, expiry: int) -> str:
    return hmac.new(key, f"{task_id}.{generation}.{expiry}".encode(), hashlib.sha256).hexdigest()
