"""Asks registries whether a client may read a manifest, and remembers that they allowed it.

The clients are the container runtimes of nodes, whose ``Authorization`` headers the mirror passes on.
"""

import hashlib
from collections.abc import Callable
from typing import NamedTuple

from cachetools import TTLCache

from pantala_process.flight import SingleFlight
from pantala_supernode.registry.api import CHALLENGE, RegistryAPI, image_name
from pantala_supernode.registry.credentials import ANONYMOUS
from pantala_supernode.registry.endpoint import ImageRepository, RepositoryLocation
from pantala_supernode.registry.errors import RegistryForbiddenError, RegistryUnauthorizedError, raise_for_status
from pantala_supernode.registry.transport import RegistryReply

SECONDS = 300.0
"""Seconds for which a permission is remembered: as long as the tokens of most registries are valid."""
_LIMIT = 50_000
_REFUSALS = (401, 403)


class RegistryPermissions:
    """Remembers which ``Authorization`` headers a registry accepted. An empty header means that every client may read.

    It stores only keyed hashes of the headers. ``key`` is random and never leaves the process.
    """

    def __init__(self, key: bytes, clock: Callable[[], float]) -> None:
        self._key = key
        self._allowed: TTLCache[bytes, bool] = TTLCache(_LIMIT, SECONDS, timer=clock)

    def allows(self, repository: str, authorization: str) -> bool:
        """True if the registry recently accepted this header, or no header. False: the caller must ask the registry."""
        headers = {"", authorization}
        return any(self._hash(repository, header) in self._allowed for header in headers)

    def allow(self, repository: str, authorization: str) -> None:
        self._allowed[self._hash(repository, authorization)] = True

    def _hash(self, repository: str, authorization: str) -> bytes:
        framed = f"{len(repository)}:{repository}{authorization}".encode("utf-8", "surrogateescape")
        return hashlib.blake2b(framed, key=self._key, digest_size=32).digest()


class RegistryVerdict(NamedTuple):
    """Whether a registry allows a client to read a manifest."""

    allowed: bool
    challenges: tuple[str, ...] = ()
    """The registry's ``WWW-Authenticate`` headers, which a refused client must get unchanged."""


class _Question(NamedTuple):
    repository: ImageRepository
    digest: str
    authorization: str


class AccessCheck:
    """Checks a client's ``Authorization`` header with a request to the registry, and remembers permissions for a while.

    A permission counts for the whole repository. The headers themselves are not stored.
    """

    def __init__(self, api: RegistryAPI, permissions: RegistryPermissions) -> None:
        self._api = api
        self._permissions = permissions
        self._flight: SingleFlight[_Question, RegistryVerdict] = SingleFlight()

    async def close(self) -> None:
        await self._flight.close()

    async def check(
        self, repository: ImageRepository, digest: str, authorization: str = "", *, fresh: bool = False
    ) -> RegistryVerdict:
        """Whether a client with this ``authorization`` (empty: an anonymous one) may read the manifest.

        ``fresh``: ignore remembered permissions. Raises :class:`pantala_supernode.registry.errors.RegistryError` if the
        registry's answer says neither yes nor no.
        """
        if not fresh and self._permissions.allows(str(repository), authorization):
            return RegistryVerdict(allowed=True)
        question = _Question(repository, digest, authorization)
        return await self._flight.share(question, lambda: self._ask(question))

    async def _ask(self, question: _Question) -> RegistryVerdict:
        verdict = await self._api.first(question.repository, lambda location: self._ask_at(location, question))
        if verdict.allowed:
            self._permissions.allow(str(question.repository), question.authorization)
        return verdict

    async def _ask_at(self, location: RepositoryLocation, question: _Question) -> RegistryVerdict:
        _, digest, authorization = question
        reply = await self._api.probe(location, digest, authorization)
        if reply.status not in _REFUSALS:
            raise_for_status(reply.status, reply.headers, image_name(location, digest))
        elif authorization or not await self._is_public(reply, location, digest):
            # A client that gets another host's challenge would send the registry's password to that host.
            challenges = reply.headers.getall(CHALLENGE, []) if reply.own else []
            return RegistryVerdict(allowed=False, challenges=tuple(challenges))
        return RegistryVerdict(allowed=True)

    async def _is_public(self, refusal: RegistryReply, location: RepositoryLocation, digest: str) -> bool:
        """True if the registry gives anonymous clients a token that opens the repository, as for public images."""
        if not self._api.learned(refusal, location, ANONYMOUS, ""):
            return False
        try:
            header = await self._api.authorization(location, ANONYMOUS)
        except (RegistryUnauthorizedError, RegistryForbiddenError):
            return False
        return (await self._api.probe(location, digest, header)).status == 200
