"""Keeps idle connections open for the next request to the same provider."""

import threading
import time
from typing import NamedTuple

from pantala_pieces.transfer.channel import Channel

_MAX_IDLE = 64
"""The most idle connections: for example 4 to each of 16 providers."""


class Address(NamedTuple):
    """Where a provider listens, and the name in its certificate."""

    host: str
    port: int
    name: str = ""
    """The name in the provider's certificate. Empty: the provider uses plain HTTP."""


class KeptConnections:
    """Idle connections. Any thread may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: dict[Address, list[tuple[Channel, float]]] = {}
        """The idle connections to each provider, with the time at which they became idle, the oldest first."""
        self._count = 0

    def take(self, address: Address) -> Channel | None:
        """A connection to the provider that can take a request. ``None``: no such connection is kept."""
        while True:
            with self._lock:
                if address not in self._idle:
                    return None
                channel = self._remove(address, -1)
            if not channel.stale:
                return channel
            channel.close()

    def keep(self, address: Address, channel: Channel) -> None:
        """Keep a connection whose last answer is complete."""
        now = time.monotonic()
        surplus = None
        with self._lock:
            self._idle.setdefault(address, []).append((channel, now))
            self._count += 1
            if self._count > _MAX_IDLE:
                surplus = self._remove(min(self._idle, key=lambda each: self._idle[each][0][1]), 0)
        if surplus is not None:
            surplus.close()

    def close(self, idle_for: float = 0.0) -> None:
        """Close the connections that have been idle for at least ``idle_for`` seconds."""
        until = time.monotonic() - idle_for
        closing = []
        with self._lock:
            for address in list(self._idle):
                while address in self._idle and self._idle[address][0][1] <= until:
                    closing.append(self._remove(address, 0))
        for channel in closing:
            channel.close()

    def _remove(self, address: Address, index: int) -> Channel:
        idle = self._idle[address]
        channel, _ = idle.pop(index)
        if not idle:
            del self._idle[address]
        self._count -= 1
        return channel
