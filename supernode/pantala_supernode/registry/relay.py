"""Whether a registry lets a node's containerd read a manifest: the registry is asked, with what containerd shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from pantala_supernode.registry import answer
from pantala_supernode.registry.api import CHALLENGE, RegistryAPI, shown
from pantala_supernode.registry.credentials import ANONYMOUS
from pantala_supernode.registry.endpoint import ImageRepository
from pantala_supernode.registry.errors import RegistryForbiddenError, RegistryUnauthorizedError
from pantala_supernode.registry.flight import Flight
from pantala_supernode.registry.permissions import RegistryPermissions
from pantala_supernode.registry.transport import RegistryReply

_REFUSALS = (401, 403)


class RegistryVerdict(NamedTuple):
    """A registry's yes or no."""

    allowed: bool
    challenges: tuple[str, ...] = ()
    """Of a no: the values of the registry's own ``WWW-Authenticate`` headers, to be passed on unchanged."""


class _Question(NamedTuple):
    repository: ImageRepository
    digest: str
    authorization: str


class Relay:
    """Asks once: a yes counts for all of the repository and whoever shows the same header, as long as it is remembered.

    Headers themselves are not kept, and go to the registry's own host alone.
    """

    def __init__(self, api: RegistryAPI, permissions: RegistryPermissions, clock: Callable[[], float]) -> None:
        self._api = api
        self._permissions = permissions
        self._clock = clock
        self._flight: Flight[_Question, RegistryVerdict] = Flight()

    async def close(self) -> None:
        """Stop asking."""
        await self._flight.close()

    async def check(
        self, repository: ImageRepository, digest: str, authorization: str = "", *, fresh: bool = False
    ) -> RegistryVerdict:
        """Whether who shows ``authorization`` (empty: nobody in particular) may read the manifest with ``digest``.

        ``fresh``: by what the registry says now, whatever it said a moment ago.
        Raises :class:`pantala_supernode.registry.errors.RegistryError` where the registry says neither yes nor no.
        """
        if not fresh and self._permissions.allows(str(repository), authorization, self._clock()):
            return RegistryVerdict(allowed=True)
        question = _Question(repository, digest, authorization)
        return await self._flight.share(question, lambda: self._ask(question))

    async def _ask(self, question: _Question) -> RegistryVerdict:
        repository, digest, authorization = question
        reply = await self._api.probe(repository, digest, authorization)
        if reply.status in _REFUSALS:
            if authorization or not await self._is_public(reply, question):
                # Another host's challenge would bring it the password that is meant for the registry.
                challenges = reply.headers.getall(CHALLENGE, []) if reply.own else []
                return RegistryVerdict(allowed=False, challenges=tuple(challenges))
        else:
            answer.raise_for_status(reply.status, reply.headers, shown(repository, digest))
        self._permissions.allow(str(repository), authorization, self._clock())
        return RegistryVerdict(allowed=True)

    async def _is_public(self, refusal: RegistryReply, question: _Question) -> bool:
        """Whether the registry lets everybody in who fetches a token first: so many do with public images."""
        repository, digest, _ = question
        if not self._api.learned(refusal, repository, ANONYMOUS, ""):
            return False
        try:
            header = await self._api.authorization(repository, ANONYMOUS)
        except (RegistryUnauthorizedError, RegistryForbiddenError):
            return False
        return (await self._api.probe(repository, digest, header)).status == 200
