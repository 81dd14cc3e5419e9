"""The peers: who they are, where they serve, whether they are there. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar

from pantala_protocol.images import PullState, RuntimeState
from pantala_supernode.errors import EmptyValueError, InvalidValueError, NotFoundError


@dataclass(slots=True)
class SwarmPeer:
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
    host: str = ""
    """The host's name, of a peer that gave it."""
    downloads: int | None = None
    """Pieces that it fetches at once; ``None``: it did not say."""
    upload_slots: int | None = None
    """Pieces that it sends at once; ``None``: it did not say."""
    pulls: Mapping[str, PullState] = field(default_factory=dict)
    """How far the images are that its node was ordered to have, by key, in its own words."""
    runtime: RuntimeState | None = None
    """Its node's container runtime; ``None``: it did not say."""

    @property
    def can_serve(self) -> bool:
        """Whether others may be sent to it."""
        return self.connected and not self.leaving and self.port > 0


_SORT_KEYS: Mapping[str, Callable[[SwarmPeer], str | int]] = {
    "ID": lambda peer: peer.name,
    "IP": lambda peer: peer.address,
    "hostName": lambda peer: peer.host,
    "port": lambda peer: peer.port,
    "version": lambda peer: peer.version,
}


class PeerManager:
    """The peers by name."""

    def __init__(self) -> None:
        self._peers: dict[str, SwarmPeer] = {}

    def register(self, peer: SwarmPeer) -> None:
        """A process of a peer introduced itself; it replaces the node's former one.

        Raises :class:`EmptyValueError` for one without a name.
        """
        if not peer.name:
            raise EmptyValueError("a peer without a name cannot be registered; give one")
        self._peers[peer.name] = peer

    def deregister(self, name: str) -> None:
        """The peer is gone for good. Raises as :meth:`known`."""
        del self._peers[self.known(name).name]

    def get(self, name: str) -> SwarmPeer | None:
        """A peer, if it is known."""
        return self._peers.get(name)

    def known(self, name: str) -> SwarmPeer:
        """A peer. Raises :class:`EmptyValueError` for no name, :class:`NotFoundError` for one that nobody has."""
        if not name:
            raise EmptyValueError("name a peer")
        peer = self._peers.get(name)
        if peer is None:
            raise NotFoundError(f"no peer is named {name[:100]!r}; it may have gone")
        return peer

    def list(self, page: PageFilter | None = None) -> Sequence[SwarmPeer]:
        """All peers in the order in which they came, or a page of them.

        Raises :class:`pantala_supernode.errors.InvalidValueError` for a key that peers are not sorted by.
        """
        return (page or PageFilter()).of(self._peers.values(), _SORT_KEYS)

    def update(self, name: str, **news: object) -> bool:
        """Take news of a peer. Returns whether anything is new. Raises as :meth:`known`."""
        peer = self.known(name)
        changed = {name for name, value in news.items() if getattr(peer, name) != value}
        for name in changed:
            setattr(peer, name, news[name])
        return bool(changed)

    def can_serve(self, name: str) -> bool:
        """Whether others may be sent to the peer."""
        peer = self._peers.get(name)
        return peer is not None and peer.can_serve

    def __iter__(self) -> Iterator[SwarmPeer]:
        return iter(tuple(self._peers.values()))


T = TypeVar("T")


class Direction(StrEnum):
    """Which end comes first."""

    ASC = "ASC"
    DESC = "DESC"


@dataclass(frozen=True, slots=True)
class PageFilter:
    """Which part of a list, and in which order. Raises :class:`InvalidValueError` for a negative number or size."""

    number: int = 0
    """The first page is 0."""
    size: int = 0
    """Items on a page; 0: all items are on one."""
    keys: tuple[str, ...] = ()
    """The first one counts most; none: as the list is."""
    direction: Direction = Direction.ASC

    def __post_init__(self) -> None:
        if self.number < 0 or self.size < 0:
            raise InvalidValueError("a page's number and size must not be negative")

    def of(self, items: Iterable[T], keys: Mapping[str, Callable[[T], str | int]]) -> list[T]:
        """The page of ``items``; ``keys`` tells what they can be sorted by.

        Raises :class:`InvalidValueError` for any other key.
        """
        unknown = [key for key in self.keys if key not in keys]
        if unknown:
            raise InvalidValueError(f"the list is sorted by {', '.join(keys)} and not by {unknown[0][:40]!r}")
        listed = list(items)
        if self.keys:
            listed.sort(key=lambda item: [keys[key](item) for key in self.keys])
        if self.direction is Direction.DESC:
            listed.reverse()
        if not self.size:
            return listed if self.number == 0 else []
        return listed[self.number * self.size : (self.number + 1) * self.size]
