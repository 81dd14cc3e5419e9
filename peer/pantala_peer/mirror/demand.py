"""The blobs that requests on this node wait for. All readers of a blob share one demand to the supernodes. Pure."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from pantala_peer.tasks.room import BlobRoom
from pantala_protocol import task_id
from pantala_protocol.image import ImageRepository
from pantala_protocol.sync import WantedBlob


@dataclass(frozen=True, slots=True)
class BlobOrigin:
    """Where a blob can be fetched."""

    repository: ImageRepository
    size: int
    """The blob's size in bytes, according to its manifest."""
    authorization: str = field(default="", repr=False)
    """The client's ``Authorization`` for the repository: a secret."""
    order: str = ""
    """The key of the order that pulls the image, or empty. An order's pull secrets replace ``authorization``."""


class BlobReader:
    """The demand of one request that reads a blob."""

    def __init__(
        self, digest: str, origin: BlobOrigin, position: int, readers: list["BlobReader"], changed: Callable[[], None]
    ) -> None:
        self.digest = digest
        self.origin = origin
        self.position = position
        self.stalls = 0
        """How often the wait for the byte at ``position`` was too long."""
        self._readers = readers
        self._changed = changed

    @property
    def leads(self) -> bool:
        """True if no other reader of the blob needs an earlier byte."""
        return all(self.position <= other.position for other in self._readers)

    def waits_at(self, position: int) -> None:
        """Record which byte the reader needs next."""
        if position != self.position:
            self.position, self.stalls = position, 0
            self._changed()

    def stalled(self) -> None:
        """Send the demand again, because the byte at ``position`` is late."""
        self.stalls += 1
        self._changed()


class BlobDemand:
    """The demand of all readers. ``report`` gets a task's ID and the task's demand, or ``None`` without a reader.

    ``room`` does not drop a blob that has a reader.
    """

    def __init__(self, room: BlobRoom, report: Callable[[str, WantedBlob | None], None]) -> None:
        self._room = room
        self._report = report
        self._readers: dict[str, list[BlobReader]] = {}

    @contextlib.contextmanager
    def reader(self, digest: str, origin: BlobOrigin, position: int) -> Iterator[BlobReader]:
        """Demand a blob from ``position`` on while the context is entered."""
        name = task_id.of_blob(digest)
        readers = self._readers.setdefault(name, [])
        reader = BlobReader(digest, origin, position, readers, lambda: self._send(name, readers))
        readers.append(reader)
        self._send(name, readers)
        try:
            yield reader
        finally:
            readers.remove(reader)
            if not readers:
                del self._readers[name]
            self._send(name, readers)

    def _send(self, name: str, readers: list[BlobReader]) -> None:
        self._room.demand(name, demanded=bool(readers))
        self._report(name, _joined(readers) if readers else None)


def _joined(readers: list[BlobReader]) -> WantedBlob:
    """The common demand of all readers of one blob.

    The newest reader's credential is used, because it stays valid for longest. A reader with an order is preferred: the
    order's pull secrets stay valid as long as the order.
    """
    youngest = next((reader for reader in reversed(readers) if reader.origin.order), readers[-1])
    origin = youngest.origin
    return WantedBlob(
        registry=origin.repository.registry,
        repository=origin.repository.name,
        digest=youngest.digest,
        position=min(reader.position for reader in readers),
        stalls=max(reader.stalls for reader in readers),
        credential="" if origin.order else origin.authorization,
        order=origin.order,
    )
