"""One blob that nodes' container runtimes wait for, or did lately. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from pantala_supernode.tasks.copy import FileSource


class KeptBlob(NamedTuple):
    """What has to be known of a blob to keep it for others as long as another process would have. No secret."""

    digest: str
    generation: str
    """Of the copy here: only who was let in was told it."""
    idle: float
    """Seconds since a node waited for it."""


@dataclass(slots=True)
class LeasedBlob:
    """Who waits for it, and where it may come from."""

    digest: str
    waiting: dict[str, tuple[FileSource, ...]] = field(default_factory=dict)
    """By node, what it may be fetched from."""
    source: FileSource | None = None
    """In use."""
    refused: set[FileSource] = field(default_factory=set)
    """It could not be had from there."""
    first: FileSource | None = None
    """All that is here of it comes from there: whoever has that one has the right to it, as soon as something came."""
    attempt: int = 1
    wanted_at: float = 0.0
    restored: str = ""
    """Generation of the copy that an earlier process kept; empty: this one began it."""

    def sources(self) -> Iterator[FileSource]:
        """What it may be fetched from now."""
        return (source for sources in self.waiting.values() for source in sources)
