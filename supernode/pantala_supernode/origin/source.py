"""The ports for reading files: from origins, and from other replicas that have them already."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

from pantala_supernode.origin.body import Body
from pantala_supernode.tasks.copy import FetchOrder, FileSource


@dataclass(frozen=True, slots=True)
class Resume:
    """Which part of a known content to request, or whether that content is still current."""

    offset: int
    """The first byte."""
    end: int | None = None
    """The byte after the last one. ``None``: the end of the file."""
    validator: str = ""
    """The content's strong ETag (with quotes) or Last-Modified. Empty: not known.

    The origin sends another content whole.
    """
    generation: str = ""
    """The content's identity among replicas."""
    complete: bool = False
    """Our copy is whole. Only another content is wanted, from its start."""


@dataclass(slots=True)
class Provenance:
    """Describes the replica's copy that a body comes from, so that ours becomes the same copy."""

    generation: str
    piece_size: int
    origin_bytes: int
    """Bytes of body that were read from the origin for it. Final once the body has ended."""
    digest: str = ""
    """``sha256:`` of the whole. Known at the latest once the body has ended."""
    end: int | None = None
    """The byte after the last one that the replica has. ``None``: it sends the whole file."""
    on_wrong: Callable[[], None] = lambda: None
    """Called if the whole does not have the digest."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer before its body."""

    length: int | None
    """The announced length of the whole file. ``None``: only the body's end shows it."""
    offset: int
    """The byte of the file at which the body starts: the requested one, or 0."""
    etag: str
    """The strong ETag with its quotes, or empty."""
    last_modified: str
    """Last-Modified as sent. Empty if missing, or too recent to distinguish two contents."""
    framed: bool
    """True if a cut body can be distinguished from a complete one."""
    body: Body
    """It ends only where the origin ended it."""
    provenance: Provenance | None = None
    """``None``: the body comes from the origin."""
    lifetime: float | None = None
    """How long the origin declares the answer fresh, in seconds from now. ``None``: not declared."""
    unchanged: bool = False
    """The complete copy is still current. The answer has no body."""
    ranges: bool = False
    """The origin serves ranges of this content."""

    @property
    def validator(self) -> str:
        return self.etag or self.last_modified


class SourceReader(Protocol):
    """Reads files from their sources."""

    def open(self, source: FileSource, resume: Resume | None = None) -> AbstractAsyncContextManager[Answer]:
        """Request ``source`` with one GET. Leaving the context ends the reading.

        Raises :class:`pantala_supernode.errors.SourceError`.
        """


SourceChoice = Callable[[FetchOrder, SourceReader], AbstractAsyncContextManager[SourceReader]]
"""Gives the reader for one try to complete a copy: from other replicas if they have the file, else from the origin.

While the context is entered, other replicas can see the progress of this one.
"""


def origin_only(_: FetchOrder, origin: SourceReader) -> AbstractAsyncContextManager[SourceReader]:
    return nullcontext(origin)
