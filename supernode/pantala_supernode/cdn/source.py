"""The port to origins: what the CDN asks for and what it gets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Resume:
    """Ask for a part of a content that was seen before."""

    offset: int
    """The first byte wanted."""
    end: int | None = None
    """The byte behind the last one wanted; ``None``: up to the end of the file."""
    validator: str = ""
    """The strong ETag (with quotes) or Last-Modified of that content: another one is given whole. Empty: not known."""


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

    @property
    def validator(self) -> str:
        """What pins this content: the ETag, else Last-Modified, else nothing."""
        return self.etag or self.last_modified


class Source(Protocol):
    """Reads origins."""

    def open(
        self, url: str, headers: Mapping[str, str], resume: Resume | None = None
    ) -> AbstractAsyncContextManager[Answer]:
        """Ask for ``url`` in one GET; ``headers`` go to its host alone. Leaving the context ends the reading.

        Raises :class:`pantala_supernode.errors.SourceError`.
        """
