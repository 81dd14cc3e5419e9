"""The open connections at a port, and the choice of a connection to close when a new client connects. Pure."""

from collections import Counter
from typing import Generic, TypeVar

K = TypeVar("K")

FIRST_REQUEST = 10.0
"""The most seconds from the beginning of a connection to the end of the head of its first request."""

_EACH, _LEAST = 4, 16
"""One address may have a quarter of all connections, but always 16. So it cannot take the place of all others."""


class FullError(Exception):
    """No further connection is possible, because each open connection has sent a request."""


class ConnectionTable(Generic[K]):
    """At most ``most`` connections, of which one address may have a part.

    A connection that has not sent a complete request is *new*. If an address has too many connections, its oldest new
    connection must end. If the table is full, the address with the most new connections loses the oldest of these. So
    clients that send nothing cannot use up the connections. Only one thread may use the table.
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
        """The connection to close before a connection from ``address`` is added. ``None``: there is room.

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
        """Record that a connection has sent a complete request."""
        address = self._addresses.get(key)
        if address is not None:
            self._forget_new(key, address)

    def remove(self, key: K) -> None:
        """Forget a connection that was closed. Does nothing for an unknown connection."""
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
