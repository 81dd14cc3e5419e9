"""The peers: who they are, where they serve, whether they are there. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(slots=True)
class Peer:
    """One peer: the process on one node."""

    name: str
    """The node's name, which its token proves."""
    boot: str
    """Of the process; another one is another process, which holds what its inventory says and nothing else."""
    address: str
    """Where its connection came from."""
    port: int
    """Where it serves pieces; 0: it does not."""
    key: bytes
    """With which tickets for it are issued."""
    zone: str = ""
    version: str = ""
    connected: bool = True
    leaving: bool = False
    cache_bytes: int = 0
    uploads: int = 0

    @property
    def can_serve(self) -> bool:
        """Whether others may be sent to it."""
        return self.connected and not self.leaving and self.port > 0


class PeerManager:
    """The peers by name."""

    def __init__(self) -> None:
        self._peers: dict[str, Peer] = {}

    def register(self, peer: Peer) -> None:
        """A process of a peer introduced itself; it replaces the node's former one."""
        self._peers[peer.name] = peer

    def deregister(self, name: str) -> None:
        """The peer is gone for good. Raises :class:`KeyError` if it is not known."""
        del self._peers[name]

    def get(self, name: str) -> Peer | None:
        """A peer, if it is known."""
        return self._peers.get(name)

    def update(self, name: str, **news: str | int | bool) -> bool:
        """Take news of a peer. Returns whether anything is new. Raises :class:`KeyError` if it is not known."""
        peer = self._peers[name]
        changed = {field for field, value in news.items() if getattr(peer, field) != value}
        for field in changed:
            setattr(peer, field, news[field])
        return bool(changed)

    def can_serve(self, name: str) -> bool:
        """Whether others may be sent to the peer."""
        peer = self._peers.get(name)
        return peer is not None and peer.can_serve

    def __iter__(self) -> Iterator[Peer]:
        return iter(list(self._peers.values()))
