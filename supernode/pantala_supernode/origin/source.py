"""The interface for reading files: from origins, or from other replicas that have them already."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

from pantala_supernode.origin.body import Body
from pantala_supernode.tasks.copy import FetchOrder, FileSource


@dataclass(frozen=True, slots=True)
class Resume:
    """A request to continue a known content from a byte on, or to ask whether a whole copy is still current."""

    offset: int
    """The position of the first byte to request."""
    end: int | None = None
    """The byte after the last one. ``None``: the end of the file."""
    validator: str = ""
    """The content's strong ETag (with quotes) or Last-Modified. Empty: not known.

    With it, the origin sends the whole file if its content is another one.
    """
    generation: str = ""
    """The generation of the known content, by which replicas compare contents."""
    complete: bool = False
    """True if our copy is whole: the body is wanted only if the content is another one."""


@dataclass(slots=True)
class Provenance:
    """Describes the copy of another replica that a body comes from, so that our copy gets the same generation."""

    generation: str
    piece_size: int
    origin_bytes: int
    """Bytes of bodies that were read from the origin for that copy. Final once the body has ended."""
    digest: str = ""
    """``sha256:`` of the whole file. Known at the latest once the body has ended."""
    end: int | None = None
    """The byte after the last one that the replica has. ``None``: it sends the whole file."""
    origins: tuple[str, ...] = ()
    """As in :attr:`Copy.origins`."""
    on_wrong: Callable[[], None] = lambda: None
    """Called if the whole file does not have the digest."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer of a source: facts about the file, and the :attr:`body`."""

    length: int | None
    """The announced length of the whole file. ``None``: not announced, so only the body's end shows it."""
    offset: int
    """The position in the file at which the body starts: the requested one, or 0."""
    etag: str
    """The strong ETag with its quotes, or empty."""
    last_modified: str
    """The Last-Modified header. Empty if it is missing, or so recent that two contents may share it."""
    framed: bool
    """True if a cut body can be distinguished from a complete one."""
    body: Body
    """The body. If it is cut, reading it raises an error."""
    provenance: Provenance | None = None
    """The replica's copy that the body comes from. ``None``: the body comes from the origin."""
    lifetime: float | None = None
    """How long the origin declares the answer fresh, in seconds from now. ``None``: not declared."""
    unchanged: bool = False
    """True if our whole copy is still current. The answer then has no body."""
    end: int | None = None
    """The byte of the file after the last one of the body, if the answer announces it."""
    ranges: bool = False
    """True if the origin serves ranges of this content."""

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
"""Returns the reader for one try to complete a copy. It reads from a replica that has the file, else from the origin.

Inside the context, other replicas can see the :class:`Stage` of this one.
"""


def origin_only(_: FetchOrder, origin: SourceReader) -> AbstractAsyncContextManager[SourceReader]:
    return nullcontext(origin)
