"""What the conversations with supernodes stand on: the connections, and those who do what is said."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, Self

from pantala_peer.sync.exchange import Supernode
from pantala_protocol.images import NodeOrders
from pantala_protocol.sync import Assignment, Work


class Connection(Supernode, Protocol):
    """The port to one supernode, opened and closed."""

    async def __aenter__(self) -> Self:
        """Open it; it may be opened again after it was closed."""
        ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close it."""
        ...


class Orders(Protocol):
    """The port to who does what the supernodes say."""

    def assign(self, assigned: dict[str, Assignment], *, complete: bool) -> None:
        """Hold what is assigned, by task ID. Only what a ``complete`` set does not name is dropped."""
        ...

    def give(self, work: Work, giver: str) -> None:
        """Fetch a piece for the supernode of boot ID ``giver``."""
        ...


class ImageOrders(Protocol):
    """The port to who does what is said about images."""

    def obey(self, orders: NodeOrders) -> None:
        """Do this, and nothing that it does not name."""
        ...
