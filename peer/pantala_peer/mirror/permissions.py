"""Decides which clients may read which digests, and keeps the passwords of ordered pulls. Pure.

Any process of the node can ask the mirror, and knowing a digest does not make a private layer public. So a client may
read only digests of a manifest that it read a moment ago. The hash of ``Authorization`` identifies the client; without
the header it is the public.
"""

import base64
import contextlib
import hashlib
import hmac
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from cachetools import LRUCache

SECONDS = 300.0
"""A permission ends this many seconds after its last use, like the tokens of most registries."""

_MAX_SECONDS = 3600.0
"""A permission ends this many seconds after its grant. A slow pull of many layers may take that long."""

_MAX_PERMISSIONS = 100_000
"""The number of permissions that are kept. The least recently used are dropped first."""

CHALLENGE = 'Basic realm="pantala"'
"""The ``WWW-Authenticate`` header that makes containerd send a password, if it has one for this mirror."""

USER = "pantala"


class DigestInfo(NamedTuple):
    """What a manifest says about one digest."""

    size: int
    """The size in bytes."""
    is_config: bool = False
    """True for an image's configuration: a small blob that containerd fetches before the layers."""


class _Permission(NamedTuple):
    info: DigestInfo
    first: float
    last: float


class ReadPermissions:
    """All permissions, by a hash with the random ``key``, so that they contain no credential. ``now`` is in seconds."""

    def __init__(self, key: bytes, *, seconds: float = SECONDS) -> None:
        self._key = key
        self._seconds = seconds
        self._permissions: LRUCache[bytes, _Permission] = LRUCache(_MAX_PERMISSIONS)

    def grant(self, repository: str, authorization: str, named: Mapping[str, DigestInfo], now: float) -> None:
        """Let a client read the digests that a manifest names. The registry has admitted the client to the manifest."""
        for digest, info in named.items():
            self._permissions[self._hash(repository, authorization, digest)] = _Permission(info, now, now)

    def find(self, repository: str, authorization: str, digest: str, now: float) -> DigestInfo | None:
        """Use a permission, and so extend it. ``None``: the client may not read the digest."""
        key = self._hash(repository, authorization, digest)
        found = self._permissions.get(key)
        if found is None:
            return None
        if now > found.last + self._seconds or now > found.first + _MAX_SECONDS:
            del self._permissions[key]
            return None
        self._permissions[key] = found._replace(last=now)
        return found.info

    def _hash(self, *parts: str) -> bytes:
        encoded = (part.encode("utf-8", "surrogateescape") for part in parts)
        framed = b"".join(len(data).to_bytes(8, "big") + data for data in encoded)
        return hashlib.blake2b(framed, key=self._key, digest_size=32).digest()


@dataclass(slots=True, eq=False)
class PullGrant:
    """The password of one ordered pull. containerd sends it only to this mirror, and only during the pull."""

    key: str
    """The key of the image's order."""
    repository: str
    """The only ``registry/repository`` for which the password is valid."""
    password: str = field(repr=False)
    bytes: int = 0
    """Bytes of blobs that were served for the pull."""

    @property
    def authorization(self) -> str:
        return "Basic " + base64.b64encode(f"{USER}:{self.password}".encode()).decode()


class PullGrants:
    """The grants of all ordered pulls that run now. ``new_password`` returns an unguessable text."""

    def __init__(self, new_password: Callable[[], str]) -> None:
        self._new_password = new_password
        self._running: list[PullGrant] = []

    @contextlib.contextmanager
    def open(self, key: str, repository: str) -> Iterator[PullGrant]:
        """Accept a new password for an ordered pull while the context is entered."""
        grant = PullGrant(key, repository, self._new_password())
        self._running.append(grant)
        try:
            yield grant
        finally:
            self._running.remove(grant)

    def awaits(self, repository: str) -> bool:
        """True if an ordered pull of the repository runs. Then a client without a password may belong to it."""
        return any(grant.repository == repository for grant in self._running)

    def find(self, repository: str, authorization: str) -> PullGrant | None:
        shown = authorization.encode("utf-8", "surrogateescape")
        for grant in self._running:
            if hmac.compare_digest(shown, grant.authorization.encode()):
                return grant if grant.repository == repository else None
        return None


def is_ours(authorization: str) -> bool:
    """True if the header has the password of an ordered pull, even of an ended one. It must not reach a registry."""
    scheme, _, encoded = authorization.partition(" ")
    try:
        user, colon, _ = base64.b64decode(encoded, validate=True).partition(b":")
    except ValueError:
        return False
    return scheme.lower() == "basic" and bool(colon) and user == USER.encode()
