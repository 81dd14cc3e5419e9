"""Connections that are kept open for the next request to the same provider."""

import threading
import time
from typing import NamedTuple

from pantala_pieces.transfer.channel import Channel

_MAX_IDLE = 64
"""The number of idle connections that are kept: 4 to each of 16 providers."""


class Address(NamedTuple):
    """Where a provider listens."""

    host: str
    port: int


class _Idle(NamedTuple):
    address: Address
    channel: Channel
    since: float


class KeptConnections:
    """Idle connections, the longest idle first. Any thread may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[_Idle] = []

    def take(self, address: Address) -> Channel | None:
        """A connection to the provider that can take a request. ``None`` if none is kept."""
        while True:
            with self._lock:
                index = next((n for n in reversed(range(len(self._idle))) if self._idle[n].address == address), None)
                kept = None if index is None else self._idle.pop(index)
            if kept is None or not kept.channel.stale:
                return None if kept is None else kept.channel
            kept.channel.close()

    def keep(self, address: Address, channel: Channel) -> None:
        """Keep a connection whose last answer is complete."""
        with self._lock:
            self._idle.append(_Idle(address, channel, time.monotonic()))
            surplus = self._idle.pop(0) if len(self._idle) > _MAX_IDLE else None
        if surplus is not None:
            surplus.channel.close()

    def close(self, idle_for: float = 0.0) -> None:
        """Close the connections that have been idle for so many seconds."""
        until = time.monotonic() - idle_for
        with self._lock:
            closing = [kept for kept in self._idle if kept.since <= until]
            self._idle = [kept for kept in self._idle if kept.since > until]
        for kept in closing:
            kept.channel.close()
