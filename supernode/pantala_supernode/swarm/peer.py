"""The peers: their names, where they serve pieces, and whether they are connected. Pure."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar

from pantala_protocol.images import PullState, RuntimeState
from pantala_supernode.errors import EmptyValueError, InvalidValueError, NotFoundError

T = TypeVar("T")

_NOISE = 2.0
"""Seconds by which two measurements of a clock may differ without a reason, because a request may be late."""


@dataclass(slots=True)
class SwarmPeer:
    """One process that receives pieces and serves them: a peer on a node, or a Dragonfly client."""

    name: str
    """For a peer on a node: the name of the node, which the peer's token proves."""
    address: str
    """The source address of the process's connections."""
    port: int
    """The port at which the process serves pieces. 0: it serves no pieces."""
    key: bytes
    """The key for tickets of this process's piece server."""
    zone: str = ""
    version: str = ""
    connected: bool = True
    leaving: bool = False
    cache_bytes: int = 0
    uploads: int = 0
    host: str = ""
    """The host name that the process reported. Empty: not reported."""
    downloads: int | None = None
    """The most pieces that the process fetches at once. ``None``: not reported."""
    upload_slots: int | None = None
    """The most pieces that the process sends at once. ``None``: not reported."""
    window: int = 0
    """The most unfinished pieces that the process can use. 0: as many as ``downloads``."""
    pulls: Mapping[str, PullState] = field(default_factory=dict)
    """The state of each ordered image on the node, by the order's key, as the peer reported it."""
    ahead_seconds: float | None = None
    """By how many seconds the peer's clock is ahead of the cluster's. ``None``: not reported."""
    runtime: RuntimeState | None = None
    """The container runtime of the peer's node. ``None``: not reported."""

    @property
    def ahead(self) -> int:
        """How many more pieces than it fetches at once the process can use, because it is fast."""
        if not self.window or self.downloads is None:
            return 0
        return max(0, self.window - (self.downloads or 1))

    @property
    def can_serve(self) -> bool:
        return self.connected and not self.leaving and self.port > 0


class Direction(StrEnum):
    """The direction of sorting."""

    ASC = "ASC"
    DESC = "DESC"


@dataclass(frozen=True, slots=True)
class PageFilter:
    """Which page of a list to return, in which order. Raises :class:`InvalidValueError` for negative numbers."""

    number: int = 0
    """The number of the page. The first page is 0."""
    size: int = 0
    """The number of items on a page. 0: one page has all items."""
    keys: tuple[str, ...] = ()
    """The sort keys, the most important first. Without keys, the order of the list stays."""
    direction: Direction = Direction.ASC

    def __post_init__(self) -> None:
        if self.number < 0 or self.size < 0:
            raise InvalidValueError("A page's number and size must not be negative.")

    def of(self, items: Iterable[T], keys: Mapping[str, Callable[[T], str | int]]) -> list[T]:
        """The page of ``items``. ``keys`` are the allowed sort keys. Other keys raise :class:`InvalidValueError`."""
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
        """Add a peer, or replace a former process of that name. Raises :class:`EmptyValueError` for an empty name."""
        if not peer.name:
            raise EmptyValueError("The peer's name is empty. A peer needs a name to register.")
        self._peers[peer.name] = peer

    def deregister(self, name: str) -> None:
        """Remove a peer. Raises as :meth:`known`."""
        del self._peers[self.known(name).name]

    def get(self, name: str) -> SwarmPeer | None:
        return self._peers.get(name)

    def known(self, name: str) -> SwarmPeer:
        """Return a peer. Raises :class:`EmptyValueError` (an empty name) or :class:`NotFoundError`."""
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
        changed = False
        for field_name, value in news.items():
            if getattr(peer, field_name) != value:
                setattr(peer, field_name, value)
                changed = True
        return changed

    def note_clock(self, name: str, ahead: float) -> bool:
        """Record by how many seconds a peer's clock is ahead. Returns whether the value has changed noticeably."""
        peer = self._peers.get(name)
        if peer is None:
            return False
        if peer.ahead_seconds is not None and abs(peer.ahead_seconds - ahead) < _NOISE:
            return False
        peer.ahead_seconds = ahead
        return True

    def __iter__(self) -> Iterator[SwarmPeer]:
        return iter(tuple(self._peers.values()))
