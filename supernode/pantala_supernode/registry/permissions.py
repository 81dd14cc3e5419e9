"""Who was let into which repository by its registry, a moment ago. Pure; keeps no credentials, only their hashes."""

from __future__ import annotations

import hashlib

from pantala_supernode.registry.cache import Cache

SECONDS = 300.0
"""How long a registry's yes counts: as long as most registries' tokens do."""
_LIMIT = 50_000


class RegistryPermissions:
    """What registries allowed, by repository and ``Authorization`` header; an empty header is everybody's.

    ``key`` is random and never leaves the process, so that nothing can be learned from a hash.
    """

    def __init__(self, key: bytes, *, seconds: float = SECONDS) -> None:
        self._key = key
        self._seconds = seconds
        self._allowed: Cache[bytes, bool] = Cache(_LIMIT)

    def allows(self, repository: str, authorization: str, now: float) -> bool:
        """Whether the registry let it in, or everybody; if not, the registry has to be asked."""
        headers = {"", authorization}
        return any(self._allowed.get(self._hash(repository, header), now) for header in headers)

    def allow(self, repository: str, authorization: str, now: float) -> None:
        """Remember that the registry let it in."""
        self._allowed.put(self._hash(repository, authorization), True, now + self._seconds)

    def _hash(self, repository: str, authorization: str) -> bytes:
        framed = f"{len(repository)}:{repository}{authorization}".encode("utf-8", "surrogateescape")
        return hashlib.blake2b(framed, key=self._key, digest_size=32).digest()
