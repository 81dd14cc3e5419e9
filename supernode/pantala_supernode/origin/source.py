"""The ports to where files come from: origins, and other supernodes that have them already."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from pantala_supernode.tasks.copy import FetchOrder, FileSource


@dataclass(frozen=True, slots=True)
class Resume:
    """Ask for a part of a content that was seen before, or whether that is still the content."""

    offset: int
    """The first byte wanted."""
    end: int | None = None
    """The byte behind the last one wanted; ``None``: up to the end of the file."""
    validator: str = ""
    """The strong ETag (with quotes) or Last-Modified of that content: another one is given whole. Empty: not known."""
    generation: str = ""
    """By which other supernodes know that content."""
    complete: bool = False
    """All of it is here: only another content is wanted, and that from its start."""


@dataclass(slots=True)
class Provenance:
    """Of a body that another supernode gives from its copy: what makes ours the same copy."""

    generation: str
    piece_size: int
    origin_bytes: int
    """Bytes of body read from the origin for it; true when the body has ended."""
    digest: str = ""
    """``sha256:`` of the whole; known when the body has ended, at the latest."""
    end: int | None = None
    """The byte behind the last one that it can give; ``None``: it gives all up to the end of the file."""
    on_wrong: Callable[[], None] = lambda: None
    """To be told that the whole did not have the digest."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An origin's answer, before its body."""

    length: int | None
    """Bytes of the whole file, as announced; ``None``: its end will tell."""
    offset: int
    """Which byte of the file the body begins with: the one asked for, or 0."""
    etag: str
    """The strong ETag, with quotes; empty if there is none."""
    last_modified: str
    """Last-Modified as it was sent; empty if there is none, or if it is too fresh to tell two contents apart."""
    framed: bool
    """Whether a cut can be told from the body's end."""
    chunks: AsyncIterator[bytes]
    """The body. Raises :class:`pantala_supernode.errors.SourceError`; ends only where the origin ended it in order."""
    lineage: Provenance | None = None
    """``None``: the origin gives the body."""
    lifetime: float | None = None
    """Seconds that the origin says its answer holds, from now on; ``None``: it does not say."""
    unchanged: bool = False
    """The content is the one that was complete; there is no body."""

    @property
    def validator(self) -> str:
        """What pins this content: the ETag, else Last-Modified, else nothing."""
        return self.etag or self.last_modified


class SourceReader(Protocol):
    """Reads origins."""

    def open(self, source: FileSource, resume: Resume | None = None) -> AbstractAsyncContextManager[Answer]:
        """Request ``source`` with one GET. Leaving the context ends the reading.

        Raises :class:`pantala_supernode.errors.SourceError`.
        """


class Replicas(Protocol):
    """The other supernodes."""

    def trying(self, order: FetchOrder, origin: SourceReader) -> AbstractAsyncContextManager[SourceReader]:
        """What to read in one try to complete a copy: others' copies where there are any, else ``origin``.

        While the context is entered the others can be told what this supernode is at.
        """
