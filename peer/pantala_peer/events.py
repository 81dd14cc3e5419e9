"""The events inside the peer. One object emits each kind of event. Other objects subscribe to it.

=================== ================= ==================================
Event               Emitted by        Handled by
=================== ================= ==================================
Assigned            SupernodeSessions AssignedTasks
WorkGiven           SupernodeSessions AssignedTasks
ImagesOrdered       SupernodeSessions ImageOrders
DownloadEnded       Downloads         AssignedTasks, PieceWaiters
DownloadsDelivered  Downloads         AssignedTasks
FileDue             AssignedTasks     Scrub
FilePublished       Deliveries        DeliveryTraces
=================== ================= ==================================
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from pantala_peer.errors import LOCAL
from pantala_pieces.transfer.errors import FetchError
from pantala_protocol.images import NodeOrders
from pantala_protocol.sync import Assignment, Delivery, PieceWork


class Assigned(NamedTuple):
    """The assignments of this node changed."""

    tasks: dict[str, Assignment]
    """All assigned tasks, by ID."""
    complete: bool
    """True if all supernodes have answered. Then a task that is not in ``tasks`` must be dropped."""


class WorkGiven(NamedTuple):
    """A supernode gave work to this node: a piece to download."""

    work: PieceWork
    supernode: str
    """The boot ID of the supernode."""


class ImagesOrdered(NamedTuple):
    """The operator's orders to this node changed."""

    orders: NodeOrders


class DownloadEnded(NamedTuple):
    """A piece is verified and stored, or the download failed with ``error``."""

    work: PieceWork
    error: Exception | None = None

    @property
    def kind(self) -> str:
        """The ``kind`` with which a :class:`PieceFailure` reports the error."""
        return self.error.kind if isinstance(self.error, FetchError) else LOCAL


class DownloadsDelivered(NamedTuple):
    """All downloads that ended at the same moment have emitted their events."""


class FileDue(NamedTuple):
    """The scrub must verify a file, because the file is new or was changed."""


class FilePublished(NamedTuple):
    """A file was published at its path."""

    task_id: str
    delivery: Delivery
    seconds: float
    """The time that the publication took."""


AnyEvent = Assigned | WorkGiven | ImagesOrdered | DownloadEnded | DownloadsDelivered | FileDue | FilePublished
Event = TypeVar("Event", bound=AnyEvent)


class PeerEvents:
    """Calls the subscribers of an event at once, in the order in which they subscribed."""

    def __init__(self) -> None:
        self._handlers: dict[type, list[Callable[[Any], None]]] = {}

    def subscribe(self, kind: type[Event], handler: Callable[[Event], None]) -> None:
        self._handlers.setdefault(kind, []).append(handler)

    def emit(self, event: AnyEvent) -> None:
        for handler in self._handlers.get(type(event), ()):
            handler(event)
