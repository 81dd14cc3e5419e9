"""The interface that reads files: from origins, or from other replicas that already have them."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from pantala_pieces.meta import validator_of
from pantala_supernode.origin.body import Body
from pantala_supernode.tasks.copy import FetchOrder, FileSource


@dataclass(frozen=True, slots=True)
class Resume:
    """A request for a range of known content, or the question whether a complete copy is still current."""

    offset: int
    """The position of the first byte to request."""
    end: int | None = None
    """The end of the range. ``None``: the end of the file."""
    validator: str = ""
    """The content's strong ETag (with quotes) or Last-Modified. Empty: not known.

    If the content has changed, an origin that gets the validator sends the whole new file.
    """
    generation: str = ""
    """The generation of the known content. Replicas compare contents by their generations."""
    complete: bool = False
    """True if this supernode's copy is complete, so a body is needed only if the content has changed."""


@dataclass(slots=True)
class Provenance:
    """Describes another replica's copy from which a body comes. This supernode's copy gets the same generation."""

    generation: str
    piece_size: int
    origin_bytes: int
    """Bytes that were read from the origin for that copy. The number is final once the body has ended."""
    digest: str = ""
    """``sha256:`` of the whole file. It may be known only when the body has ended."""
    end: int | None = None
    """The end of the bytes that the replica has. ``None``: it sends the whole file."""
    origins: tuple[str, ...] = ()
    """As in :attr:`Copy.origins`."""
    on_wrong: Callable[[], None] = lambda: None
    """Called if the whole file does not have the digest."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer of a source: facts about the file, and the :attr:`body`."""

    length: int | None
    """The announced length of the whole file. ``None``: only the end of the body shows the length."""
    offset: int
    """The position in the file at which the body starts: the requested position, or 0."""
    etag: str
    """The ETag with its quotes, or empty. A weak one begins with ``W/``, and never shows that bytes belong together."""
    last_modified: str
    """The Last-Modified header. Empty if it is missing, or if two contents may share it."""
    framed: bool
    """True if a cut body can be distinguished from a complete body."""
    body: Body
    """The body. If it is cut, reading it raises an error."""
    provenance: Provenance | None = None
    """The replica's copy that the body comes from. ``None``: the body comes from the origin."""
    lifetime: float | None = None
    """How long the origin declares the answer fresh, in seconds from now. ``None``: not declared."""
    unchanged: bool = False
    """True if this supernode's complete copy is still current. The answer then has no body."""
    end: int | None = None
    """The position in the file at which the body ends. ``None``: the answer does not announce it."""
    ranges: bool = False
    """True if the origin serves ranges of this content."""

    @property
    def validator(self) -> str:
        """See :func:`validator_of`."""
        return validator_of(self.etag, self.last_modified)


class SourceReader(Protocol):
    """Reads files from their sources."""

    def open(self, source: FileSource, resume: Resume | None = None) -> AbstractAsyncContextManager[Answer]:
        """Request ``source`` with one GET. Leaving the context ends the reading.

        Raises :class:`pantala_supernode.errors.SourceError`.
        """


SourceChoice = Callable[[FetchOrder, SourceReader], AbstractAsyncContextManager[SourceReader]]
"""Returns the reader for one try to complete a copy. It reads from a replica that has the file, or from the origin.

Inside the context, other replicas can see the :class:`Stage` of this replica.
"""
