"""Sends requests of the OCI distribution API, with the credentials of an account."""

from collections.abc import Awaitable, Callable
from typing import Final, Literal, TypeVar

from pantala_protocol.image import ImageRepository
from pantala_supernode.outbound.request import Request
from pantala_supernode.registry import manifest
from pantala_supernode.registry.authenticator import Authenticator
from pantala_supernode.registry.clouds.accounts import CloudAccounts
from pantala_supernode.registry.credentials import ANONYMOUS, RegistryAccount
from pantala_supernode.registry.endpoint import RepositoryLocation
from pantala_supernode.registry.errors import RegistryForbiddenError, RegistryUnauthorizedError, raise_for_status
from pantala_supernode.registry.manifest import ManifestDocument, checked_digest
from pantala_supernode.registry.mapping.attempts import EndpointAttempts
from pantala_supernode.registry.transport import RegistryReply, RegistryTransport

CHALLENGE: Final = "WWW-Authenticate"
_ACCEPT = {"Accept": ", ".join((*manifest.MEDIA_TYPES, "*/*"))}
"""As containerd's. Without ``*/*``, some registries report a manifest of another type as missing."""
DIGEST: Final = "Docker-Content-Digest"
_SAME_FOR_GET = frozenset({401, 429})
"""Error statuses that do not depend on the method. After any other error for HEAD, a GET shows if HEAD is the problem.

Registries without support for HEAD answer it with 403, 404, 405 or a server error.
"""
_MOST_TRIES: Final = 3
"""A request without credentials, one with a token, and one with the password if the registry refuses the token."""
_T = TypeVar("_T")

Method = Literal["GET", "HEAD"]
Ask = Callable[[RepositoryLocation, str], Awaitable[RegistryReply]]
"""Sends one request to a place, with exactly this ``Authorization`` header (empty: none)."""


class RegistryAPI:
    """Sends requests to the endpoints of registries, and authenticates if an endpoint requires it.

    Its methods raise :class:`pantala_supernode.registry.errors.RegistryError`.
    """

    def __init__(
        self,
        transport: RegistryTransport,
        attempts: EndpointAttempts,
        authenticator: Authenticator,
        clouds: CloudAccounts,
    ) -> None:
        self._transport = transport
        self._attempts = attempts
        self._authenticator = authenticator
        self._clouds = clouds

    async def first(self, repository: ImageRepository, attempt: Callable[[RepositoryLocation], Awaitable[_T]]) -> _T:
        return await self._attempts.first(repository, attempt)

    async def manifest(self, repository: ImageRepository, target: str, account: RegistryAccount) -> ManifestDocument:
        async def read(location: RepositoryLocation) -> ManifestDocument:
            what = image_name(location, target)
            reply = await self._authorized("GET", location, target, account)
            raise_for_status(reply.status, reply.headers, what)
            digest = target if ":" in target else reply.headers.get(DIGEST)
            return ManifestDocument.checked(reply.body, reply.headers.get("Content-Type", ""), digest, what)

        return await self.first(repository, read)

    async def digest(self, repository: ImageRepository, tag: str, account: RegistryAccount) -> str | None:
        """The digest that ``tag`` points to. ``None``: the registry's answer to HEAD does not contain it."""

        async def read(location: RepositoryLocation) -> str | None:
            what = image_name(location, tag)
            reply = await self._authorized("HEAD", location, tag, account)
            if _depends_on_method(reply.status):
                return None
            raise_for_status(reply.status, reply.headers, what)
            digest = reply.headers.get(DIGEST)
            return checked_digest(digest, what) if digest else None

        return await self.first(repository, read)

    async def authorization(self, location: RepositoryLocation, account: RegistryAccount) -> str:
        """The ``Authorization`` header for the next request. Empty if the registry's challenge is not known yet."""
        real = await self._real(location, account)
        try:
            return await self._authenticator.authorization(location, real)
        except (RegistryUnauthorizedError, RegistryForbiddenError):
            if account.pod_identity:
                self._clouds.forget(location.endpoint)
            raise

    async def authenticated(
        self,
        location: RepositoryLocation,
        account: RegistryAccount,
        ask: Ask,
        reply: RegistryReply | None = None,
        *,
        may_follow: bool = True,
    ) -> RegistryReply:
        """Send a request with the credentials that the registry wants. ``reply``: its answer without any, if known.

        A registry may forward the request to another registry, which refuses it. There, only an anonymous account is
        used. The pull secret belongs to the first registry.
        """
        header = "" if reply is not None else await self.authorization(location, account)
        reply = reply or await ask(location, header)
        for number in range(1, _MOST_TRIES):
            scheme = self._learned(reply, location, await self._real(location, account), header)
            if not scheme or (number > 1 and header.lower().startswith(scheme)):
                break
            header = await self.authorization(location, account)
            reply = await ask(location, header)
        if reply.status == 401 and not reply.own and may_follow:
            other = self._attempts.endpoints.forwarded(reply.url)
            if other is not None:
                return await self.authenticated(other, ANONYMOUS, ask, may_follow=False)
        if reply.status == 401 and account.pod_identity:
            self._clouds.forget(location.endpoint)  # so that the next attempt gets new credentials
        return reply

    async def probe(self, location: RepositoryLocation, digest: str, authorization: str) -> RegistryReply:
        """Request a manifest with exactly this ``Authorization`` header (empty: none). Returns any answer."""
        reply = await self._ask("HEAD", location, location.manifest(digest), authorization)
        if _depends_on_method(reply.status):
            return await self._ask("GET", location, location.manifest(digest), authorization)
        return reply

    async def probe_blob(self, location: RepositoryLocation, digest: str, authorization: str) -> RegistryReply:
        """Request the head of a blob, as :meth:`probe`."""
        return await self._ask("HEAD", location, location.blob(digest), authorization)

    def _learned(
        self, reply: RegistryReply, location: RepositoryLocation, account: RegistryAccount, refused: str
    ) -> str:
        """Store the challenge of a 401, unless another host sent it after a redirect.

        Returns the scheme of the next ``Authorization`` header to try. Empty: only ``refused`` could be tried again.
        """
        if reply.status != 401 or not reply.own:
            return ""
        return self._authenticator.challenged(location, account, reply.headers.getall(CHALLENGE, []), refused)

    async def _ask(self, method: Method, location: RepositoryLocation, url: str, authorization: str) -> RegistryReply:
        credentials = {"Authorization": authorization} if authorization else {}
        request = Request(url, _ACCEPT, credentials, method, ca=location.endpoint.ca)
        return await self._transport.ask(request, str(location), most=manifest.MAX_SIZE)

    async def _authorized(
        self, method: Method, location: RepositoryLocation, target: str, account: RegistryAccount
    ) -> RegistryReply:
        return await self.authenticated(
            location, account, lambda place, header: self._ask(method, place, place.manifest(target), header)
        )

    async def _real(self, location: RepositoryLocation, account: RegistryAccount) -> RegistryAccount:
        """The account, or if it stands for the supernode's cloud identity, the account that the cloud gave it."""
        return await self._clouds.account(location.endpoint) if account.pod_identity else account


def _depends_on_method(status: int) -> bool:
    return status >= 400 and status not in _SAME_FOR_GET


def image_name(location: RepositoryLocation, target: str) -> str:
    """The image's name for messages. If an administrator chose the endpoint, the endpoint's URL follows."""
    name = f"{location.repository}{'@' if ':' in target else ':'}{target}"
    return f"{name} at {location.endpoint.root}" if location.mapped else name
