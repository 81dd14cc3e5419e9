"""Which connections are open at a port, and which one is closed for a new one. Pure."""

from collections import Counter
from typing import Generic, TypeVar

K = TypeVar("K")

FIRST_REQUEST = 10.0
"""Seconds from a connection's begin to the end of the head of its first request."""

_EACH, _LEAST = 4, 16
"""One address may have a quarter of the connections, so that it cannot keep others out, but always some."""


class FullError(Exception):
    """No further connection is possible, and none that is open may be closed for it."""


class ConnectionTable(Generic[K]):
    """At most ``most`` connections, of which one address may have a part.

    A connection without a complete request so far is *new*. For another connection than these, the oldest new one
    is closed. So clients that connect and send nothing do not keep others out. One thread may use the table.
    """

    def __init__(self, most: int) -> None:
        self.most = max(most, 1)
        self.most_each = min(max(self.most // _EACH, _LEAST), self.most)
        self._addresses: dict[K, str] = {}
        self._counts: Counter[str] = Counter()
        self._new: dict[str, dict[K, None]] = {}
        """The new connections of each address, the oldest first."""

    def __len__(self) -> int:
        return len(self._addresses)

    def dispensable(self, address: str) -> K | None:
        """The connection to close before one from ``address`` is added. ``None``: there is room.

        Raises :class:`FullError`.
        """
        if self._counts[address] >= self.most_each:
            new = self._new.get(address, {})
        elif len(self._addresses) >= self.most:
            new = max(self._new.values(), key=len, default={})
        else:
            return None
        for key in new:
            return key
        raise FullError

    def add(self, key: K, address: str) -> None:
        self._addresses[key] = address
        self._counts[address] += 1
        self._new.setdefault(address, {})[key] = None

    def served(self, key: K) -> None:
        """Note that a connection has sent a complete request."""
        address = self._addresses.get(key)
        if address is not None:
            self._forget_new(key, address)

    def remove(self, key: K) -> None:
        """Forget a connection that was closed. Does nothing for an unknown one."""
        address = self._addresses.pop(key, None)
        if address is None:
            return
        self._forget_new(key, address)
        self._counts[address] -= 1
        if not self._counts[address]:
            del self._counts[address]

    def _forget_new(self, key: K, address: str) -> None:
        new = self._new.get(address)
        if new is not None:
            new.pop(key, None)
            if not new:
                del self._new[address]
