"""Who may have which digests: those of a manifest that was served to the same client, a moment ago. Pure.

Any process of the node can ask the mirror, and a private layer is not everybody's because its digest is known. Who was
let in by the registry is told apart by the hash of the ``Authorization`` that was shown; no header: the public.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from typing import NamedTuple

SECONDS = 300.0
"""For which a permission holds after it was used last: as long as most registries' tokens do."""

_LONGEST = 3600.0
"""Seconds for which it holds at all, however often it is used: a pull of many layers lasts so long, on a bad day."""

_LIMIT = 100_000
"""Permissions that are remembered; the oldest go first."""


class Reach(NamedTuple):
    """A digest that a manifest names, and what it says of it."""

    size: int
    """Bytes."""
    is_config: bool = False
    """It is small, and containerd waits for it alone."""


class _Granted(NamedTuple):
    reach: Reach
    first: float
    last: float


class Permissions:
    """What may be served to whom. ``key`` is random, so that a hash tells nothing; ``now`` is any one clock's."""

    def __init__(self, key: bytes, *, seconds: float = SECONDS) -> None:
        self._key = key
        self._seconds = seconds
        self._granted: OrderedDict[bytes, _Granted] = OrderedDict()

    def grant(self, repository: str, authorization: str, reached: Mapping[str, Reach], now: float) -> None:
        """The registry gave this client a manifest from which these digests are reached."""
        for digest, reach in reached.items():
            key = self._hash(repository, authorization, digest)
            self._granted[key] = _Granted(reach, now, now)
            self._granted.move_to_end(key)
        while len(self._granted) > _LIMIT:
            self._granted.popitem(last=False)

    def find(self, repository: str, authorization: str, digest: str, now: float) -> Reach | None:
        """What is known of a digest that this client may have; ``None``: it may not. To find it is to use it."""
        key = self._hash(repository, authorization, digest)
        granted = self._granted.get(key)
        if granted is None:
            return None
        if now > granted.last + self._seconds or now > granted.first + _LONGEST:
            del self._granted[key]
            return None
        self._granted[key] = granted._replace(last=now)
        return granted.reach

    def _hash(self, *parts: str) -> bytes:
        framed = b"".join(len(data).to_bytes(8, "big") + data for data in (_encode(part) for part in parts))
        return hashlib.blake2b(framed, key=self._key, digest_size=32).digest()


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
