"""The peers: their names, where they serve pieces, and whether they are connected. Pure."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar

from pantala_protocol.images import PullState, RuntimeState
from pantala_supernode.errors import EmptyValueError, InvalidValueError, NotFoundError

T = TypeVar("T")


@dataclass(slots=True)
class SwarmPeer:
    """One process that takes pieces and serves them: a peer on a node, or a Dragonfly client."""

    name: str
    """A peer on a node has the node's name, which its token proves."""
    address: str
    """The source address of its connection."""
    port: int
    """Where it serves pieces; 0: it serves none."""
    key: bytes
    """Signs the tickets for it."""
    zone: str = ""
    version: str = ""
    connected: bool = True
    leaving: bool = False
    cache_bytes: int = 0
    uploads: int = 0
    host: str = ""
    """Its host name, if it reported one."""
    downloads: int | None = None
    """Pieces that it fetches at once; ``None``: not reported."""
    upload_slots: int | None = None
    """Pieces that it sends at once; ``None``: not reported."""
    pulls: Mapping[str, PullState] = field(default_factory=dict)
    """How far its node is with each ordered image, by key, as it reported."""
    runtime: RuntimeState | None = None
    """Its node's container runtime; ``None``: not reported."""

    @property
    def can_serve(self) -> bool:
        return self.connected and not self.leaving and self.port > 0


class Direction(StrEnum):
    """Which end of a list comes first."""

    ASC = "ASC"
    DESC = "DESC"


@dataclass(frozen=True, slots=True)
class PageFilter:
    """One page of a list, as Dragonfly's API names it. Raises :class:`InvalidValueError` for negative numbers."""

    number: int = 0
    """The first page is 0."""
    size: int = 0
    """Items on a page; 0: all items are on one."""
    keys: tuple[str, ...] = ()
    """The sort keys, the most important first. Without keys, the order of the list stays."""
    direction: Direction = Direction.ASC

    def __post_init__(self) -> None:
        if self.number < 0 or self.size < 0:
            raise InvalidValueError("A page's number and size must not be negative.")

    def of(self, items: Iterable[T], keys: Mapping[str, Callable[[T], str | int]]) -> list[T]:
        """The page of ``items``, which can be sorted by ``keys``. Raises :class:`InvalidValueError` for another key."""
        unknown = [key for key in self.keys if key not in keys]
        if unknown:
            raise InvalidValueError(f"The list cannot be sorted by {unknown[0][:40]!r}. Use one of {', '.join(keys)}.")
        listed = list(items)
        if self.keys:
            listed.sort(key=lambda item: [keys[key](item) for key in self.keys])
        if self.direction is Direction.DESC:
            listed.reverse()
        if not self.size:
            return listed if self.number == 0 else []
        return listed[self.number * self.size : (self.number + 1) * self.size]


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
        """Add a peer. It replaces the former process of that name. Raises :class:`EmptyValueError` without a name."""
        if not peer.name:
            raise EmptyValueError("The peer's name is empty. A peer needs a name to register.")
        self._peers[peer.name] = peer

    def deregister(self, name: str) -> None:
        """Remove a peer. Raises as :meth:`known`."""
        del self._peers[self.known(name).name]

    def get(self, name: str) -> SwarmPeer | None:
        return self._peers.get(name)

    def known(self, name: str) -> SwarmPeer:
        """A peer. Raises :class:`EmptyValueError` for an empty name, :class:`NotFoundError` for an unknown one."""
        if not name:
            raise EmptyValueError("The peer's name is empty. Name a peer.")
        peer = self._peers.get(name)
        if peer is None:
            raise NotFoundError(f"Peer {name[:100]!r} is not known. It may have left.")
        return peer

    def list(self, page: PageFilter | None = None) -> Sequence[SwarmPeer]:
        """All peers in the order of their registration, or a page of them. Raises as :meth:`PageFilter.of`."""
        return (page or PageFilter()).of(self._peers.values(), _SORT_KEYS)

    def update(self, name: str, **news: object) -> bool:
        """Set fields of a peer, and return whether any of them changed. Raises the errors of :meth:`known`."""
        peer = self.known(name)
        changed = {name for name, value in news.items() if getattr(peer, name) != value}
        for name in changed:
            setattr(peer, name, news[name])
        return bool(changed)

    def __iter__(self) -> Iterator[SwarmPeer]:
        return iter(tuple(self._peers.values()))
