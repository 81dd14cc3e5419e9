"""One task's copy on the supernode: what is ordered, and how far it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pantala_protocol.redaction import RedactedURL
from pantala_protocol.statement import CDNStatus, Failure
from pantala_protocol.task_id import TaskID


@dataclass(frozen=True, slots=True, repr=False)
class FileSource:
    """One file to fetch: from which URL, and how."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Sent to the origin's host only. They may hold secrets and are never shown."""
    digest: str | None = None
    """The expected ``sha256:``, ``sha512:`` or ``md5:`` of the whole file. ``None``: any content is accepted."""
    attempt: str = ""
    """A new value asks for another attempt after a failure, with all its retries."""
    priority: int = 0
    """Copies with a higher priority are fetched first."""

    def __repr__(self) -> str:
        return f"<FileSource {RedactedURL(self.url)}>"


@dataclass(frozen=True, slots=True)
class FetchOrder:
    """An order to the CDN to complete the copy of one task."""

    task_id: TaskID
    source: FileSource
    retry_limit: int | None = None
    """How many temporary failures of the origin are retried. ``None``: all of them."""
    claims: frozenset[str] = frozenset()
    """Who wants it, by names that last over a restart."""
    stale_will_do: bool = False
    """If the origin cannot be asked whether a copy of before is still right, that is used as it is."""


@dataclass(frozen=True, slots=True)
class Copy:
    """How far a copy is, at one moment."""

    task_id: TaskID
    status: CDNStatus = CDNStatus.WAITING
    generation: str = ""
    """Which content the pieces are of; empty: none yet."""
    piece_size: int = 0
    length: int | None = None
    cached: int = 0
    """The pieces that are durable and verified, as a bit mask."""
    total: int | None = None
    """How many pieces there are; ``None``: not known yet."""
    digest: str = ""
    """``sha256:`` of the whole, once all of it is there and right."""
    origin_bytes: int = 0
    """Bytes of body read from the origin since this process knows of the task."""
    failure: Failure | None = None
    """Why it does not go on; ``final``: nothing is tried soon."""
    attempt: str = ""
    """Of the order that this is about."""
