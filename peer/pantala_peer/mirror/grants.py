"""The passwords of ordered pulls. By a password, the mirror recognises the requests of an ordered pull. Pure."""

import base64
import contextlib
import hmac
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

CHALLENGE = 'Basic realm="pantala"'
"""The ``WWW-Authenticate`` header. With it, containerd sends its password for this mirror, if it has a password."""

USER = "pantala"


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
        """True if an ordered pull of the repository runs. A request without a password may belong to this pull."""
        return any(grant.repository == repository for grant in self._running)

    def find(self, repository: str, authorization: str) -> PullGrant | None:
        shown = authorization.encode("utf-8", "surrogateescape")
        for grant in self._running:
            if hmac.compare_digest(shown, grant.authorization.encode()):
                return grant if grant.repository == repository else None
        return None


def is_ours(authorization: str) -> bool:
    """True if the header has the password of a running or ended pull. The password must not reach a registry."""
    scheme, _, encoded = authorization.partition(" ")
    try:
        user, colon, _ = base64.b64decode(encoded, validate=True).partition(b":")
    except ValueError:
        return False
    return scheme.lower() == "basic" and bool(colon) and user == USER.encode()
