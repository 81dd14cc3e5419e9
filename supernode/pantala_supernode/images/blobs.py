"""The state of one leased blob. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from pantala_protocol import image, task_id
from pantala_protocol.sync import WantedBlob
from pantala_supernode.tasks.copy import FileSource


class KeptBlob(NamedTuple):
    """What the next process needs to keep a blob as long as this one would. It has no secrets."""

    digest: str
    generation: str
    """Of the copy. Only admitted peers know it."""
    idle: float
    """Seconds since a peer last waited for the blob."""


@dataclass(slots=True)
class LeasedBlob:
    """The peers that wait for one blob, and its possible sources."""

    digest: str
    waiting: dict[str, tuple[FileSource, ...]] = field(default_factory=dict)
    """The possible sources of each waiting peer."""
    source: FileSource | None = None
    """The source in use."""
    refused: set[FileSource] = field(default_factory=set)
    """Sources that do not have the blob or denied access."""
    first: FileSource | None = None
    """The only source of the copy so far. Once pieces arrive, they prove the right of every peer that names it."""
    attempt: int = 1
    wanted_at: float = 0.0
    restored: str | None = None
    """The generation of a copy that an earlier process kept."""

    def offered(self) -> Iterator[FileSource]:
        return (source for sources in self.waiting.values() for source in sources if source not in self.refused)

    def right(self, source: FileSource) -> tuple[str, str]:
        """The resource and the ``Authorization`` header, as the key of a permission."""
        return f"{source.url} {self.digest}", source.headers.get("Authorization", "")


def blob_source(url: str, authorization: str, digest: str) -> FileSource:
    """The source of a blob. An empty ``authorization`` is anonymous."""
    return FileSource(url, {"Authorization": authorization} if authorization else {}, digest)


def check_wanted(name: str, wanted: WantedBlob) -> None:
    """Raises :class:`ValueError` if a peer's request is inconsistent."""
    if task_id.of_blob(wanted.digest) != name:
        raise ValueError("the task ID does not match the digest")
    image.check_registry(wanted.registry)
    image.check_repository(wanted.repository)
