"""What the mirror's routes stand on: blobs whose bytes come while they arrive, and manifests."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol

from pantala_peer.mirror.document import Document
from pantala_peer.mirror.resource import Repository


@dataclass(frozen=True, slots=True)
class Hint:
    """Where a blob is, if it is not in the cluster yet."""

    repository: Repository
    size: int
    """Bytes, as its manifest says."""
    authorization: str = field(default="", repr=False)
    """What the client showed for the repository: a secret."""
    order: str = ""
    """Key of the image that is pulled by order: its own credentials count, and not what the client shows."""


@dataclass(frozen=True, slots=True)
class Challenge:
    """The registry does not let this client in like this."""

    values: tuple[str, ...]
    """Its ``WWW-Authenticate`` headers, unchanged. At least one."""


class Blob(Protocol):
    """One blob, as it comes in."""

    length: int
    """Bytes of the whole."""

    def read(self, start: int, end: int) -> AsyncGenerator[bytes, None]:
        """The bytes ``[start, end)``, verified, in order, as they arrive.

        Raises :class:`MirrorError`; :class:`SlowError` if no next byte came in time.
        """
        ...


class Blobs(Protocol):
    """The port to the cluster's blobs."""

    def holds(self, digest: str) -> bool:
        """Whether all of it is here, so that nobody needs to be waited for."""
        ...

    def open(self, digest: str, hint: Hint, start: int = 0) -> AbstractAsyncContextManager[Blob]:
        """Have the blob come here, from ``start`` on first, while the context is entered. Raises MirrorError."""
        ...


class Manifests(Protocol):
    """The port to manifests."""

    def holds(self, repository: Repository, reference: str, authorization: str) -> bool:
        """Whether it is here and this client may have it, so that nobody needs to be waited for."""
        ...

    async def get(
        self, repository: Repository, reference: str, authorization: str, order: str = ""
    ) -> Document | Challenge:
        """The manifest with a digest, or of a tag, for who shows ``authorization``. Raises :class:`MirrorError`.

        With an ``order``, that is asked for in its name, and what is shown says only who it is here.
        """
        ...
