"""The pulls that run by order: whoever shows the password of one is served in the order's name. Pure.

The password is made for one pull, shown by containerd to this mirror alone, and good as long as the pull lasts.
"""

from __future__ import annotations

import base64
import contextlib
import hmac
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

CHALLENGE = 'Basic realm="pantala"'
"""Has containerd show the password, if it has one for this mirror."""

USER = "pantala"


@dataclass(slots=True, eq=False)
class Grant:
    """One pull's."""

    key: str
    """Of the order's image."""
    repository: str
    """``registry/repository``: for no other it is good."""
    password: str = field(repr=False)
    bytes: int = 0
    """Of blobs, that were served for it."""

    @property
    def authorization(self) -> str:
        """The header with which the password is shown."""
        return "Basic " + base64.b64encode(f"{USER}:{self.password}".encode()).decode()


class Grants:
    """All that run now. ``invent`` makes a password that nobody guesses."""

    def __init__(self, invent: Callable[[], str]) -> None:
        self._invent = invent
        self._running: list[Grant] = []

    @contextlib.contextmanager
    def open(self, key: str, repository: str) -> Iterator[Grant]:
        """Serve a pull by order while the context is entered."""
        grant = Grant(key, repository, self._invent())
        self._running.append(grant)
        try:
            yield grant
        finally:
            self._running.remove(grant)

    def awaits(self, repository: str) -> bool:
        """Whether a pull of the repository runs: who shows nothing may be it, and is to be asked."""
        return any(grant.repository == repository for grant in self._running)

    def find(self, repository: str, authorization: str) -> Grant | None:
        """The pull whose password is shown."""
        shown = authorization.encode("utf-8", "surrogateescape")
        for grant in self._running:
            if hmac.compare_digest(shown, grant.authorization.encode()):
                return grant if grant.repository == repository else None
        return None


def is_ours(authorization: str) -> bool:
    """Whether it is a password of this kind, of a pull that runs or is over: no registry is to see it."""
    scheme, _, encoded = authorization.partition(" ")
    try:
        user, colon, _ = base64.b64decode(encoded, validate=True).partition(b":")
    except ValueError:
        return False
    return scheme.lower() == "basic" and bool(colon) and user == USER.encode()
