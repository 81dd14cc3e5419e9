"""Asks registries whether a client may read a manifest.

The clients are the container runtimes of nodes, whose ``Authorization`` headers the mirror passes on.
"""

from collections.abc import Callable
from typing import NamedTuple

from pantala_process.flight import SingleFlight
from pantala_protocol.image import ImageRepository
from pantala_protocol.rules.rights import EvidenceKind, Rights
from pantala_supernode.registry.api import CHALLENGE, DIGEST, RegistryAPI, image_name
from pantala_supernode.registry.credentials import ANONYMOUS
from pantala_supernode.registry.endpoint import RepositoryLocation
from pantala_supernode.registry.errors import (
    InvalidAnswerError,
    RegistryForbiddenError,
    RegistryUnauthorizedError,
    raise_for_status,
)
from pantala_supernode.registry.manifest import MEDIA_TYPES
from pantala_supernode.registry.transport import RegistryReply

_REFUSALS = (401, 403)


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
    """Checks a client's ``Authorization`` header with a request to the registry, and caches the right for a while.

    A right is for one manifest, because a registry's endpoints may have different contents. ``clock`` returns monotonic
    seconds.
    """

    def __init__(self, api: RegistryAPI, rights: Rights, clock: Callable[[], float]) -> None:
        self._api = api
        self._rights = rights
        self._clock = clock
        self.flight: SingleFlight[_Question, RegistryVerdict] = SingleFlight()

    async def check(
        self, repository: ImageRepository, digest: str, authorization: str = "", *, fresh: bool = False
    ) -> RegistryVerdict:
        """Whether a client with this ``authorization`` (empty: an anonymous client) may read the manifest.

        ``fresh``: ignore cached rights. Raises :class:`pantala_supernode.registry.errors.RegistryError` if the registry
        neither allows nor refuses.
        """
        if not fresh and self._is_allowed(str(repository), digest, authorization):
            return RegistryVerdict(allowed=True)
        question = _Question(repository, digest, authorization)
        return await self.flight.share(question, lambda: self._ask(question))

    async def _ask(self, question: _Question) -> RegistryVerdict:
        verdict = await self._api.first(question.repository, lambda location: self._ask_at(location, question))
        client = self._rights.subject(str(question.repository), question.authorization)
        if verdict.allowed:
            self._rights.grant(client, question.digest, EvidenceKind.ALLOWED, self._clock())
        else:
            self._rights.refuse(client, question.digest, self._clock())
        return verdict

    def _is_allowed(self, repository: str, digest: str, authorization: str) -> bool:
        clients = {self._rights.subject(repository), self._rights.subject(repository, authorization)}
        return any(self._rights.find(client, digest, self._clock()) for client in clients)

    async def _ask_at(self, location: RepositoryLocation, question: _Question) -> RegistryVerdict:
        _, digest, authorization = question
        reply = await self._api.probe(location, digest, authorization)
        if reply.status not in _REFUSALS:
            _check_manifest(reply, location, digest)
        elif authorization or not await self._is_public(reply, location, digest):
            # After another host's challenge, the client would send the registry's password to that host.
            challenges = reply.headers.getall(CHALLENGE, []) if reply.own else []
            return RegistryVerdict(allowed=False, challenges=tuple(challenges))
        return RegistryVerdict(allowed=True)

    async def _is_public(self, refusal: RegistryReply, location: RepositoryLocation, digest: str) -> bool:
        """True if an anonymous client gets a token with which it may read the manifest, as for public images."""
        try:
            found = await self._api.authenticated(
                location, ANONYMOUS, lambda place, header: self._api.probe(place, digest, header), refusal
            )
        except (RegistryUnauthorizedError, RegistryForbiddenError):
            return False
        if found.status != 200:
            return False
        _check_manifest(found, location, digest)
        return True


def _check_manifest(reply: RegistryReply, location: RepositoryLocation, target: str) -> None:
    """Raise a :class:`RegistryError` unless the answer describes the manifest. A login page may have status 200 too."""
    what = image_name(location, target)
    raise_for_status(reply.status, reply.headers, what)
    digest = reply.headers.get(DIGEST, "")
    media_type = reply.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    described = digest == target if digest and ":" in target else bool(digest) or media_type in MEDIA_TYPES
    if not described:
        raise InvalidAnswerError.of(what, "the answer does not describe a manifest")
