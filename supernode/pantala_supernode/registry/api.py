"""Requests of the OCI distribution API, made with the credentials of an account."""

from typing import Final, Literal

from pantala_supernode.registry import manifest
from pantala_supernode.registry.authenticator import Authenticator
from pantala_supernode.registry.credentials import RegistryAccount
from pantala_supernode.registry.endpoint import ImageRepository, RegistryEndpoints
from pantala_supernode.registry.errors import raise_for_status
from pantala_supernode.registry.manifest import ManifestDocument, checked_digest
from pantala_supernode.registry.transport import RegistryReply, RegistryRequest, RegistryTransport

CHALLENGE: Final = "WWW-Authenticate"
_ACCEPT = {"Accept": ", ".join(manifest.MEDIA_TYPES)}
_DIGEST = "Docker-Content-Digest"
_NO_HEAD = frozenset({400, 405, 406, 415, 500, 501})
"""Statuses with which registries may answer HEAD if they do not support it. A GET shows the real problem."""

Method = Literal["GET", "HEAD"]


class RegistryAPI:
    """Sends requests to registries, and authenticates when a registry asks for it. Raises ``RegistryError``."""

    def __init__(
        self, transport: RegistryTransport, endpoints: RegistryEndpoints, authenticator: Authenticator
    ) -> None:
        self._transport = transport
        self._endpoints = endpoints
        self._authenticator = authenticator

    async def manifest(self, repository: ImageRepository, target: str, account: RegistryAccount) -> ManifestDocument:
        what = image_name(repository, target)
        reply = await self._authorized("GET", repository, target, account)
        raise_for_status(reply.status, reply.headers, what)
        digest = target if ":" in target else reply.headers.get(_DIGEST)
        return ManifestDocument.checked(reply.body, reply.headers.get("Content-Type", ""), digest, what)

    async def digest(self, repository: ImageRepository, tag: str, account: RegistryAccount) -> str | None:
        """The digest that ``tag`` points to. ``None`` if the registry's answer to HEAD does not tell."""
        what = image_name(repository, tag)
        reply = await self._authorized("HEAD", repository, tag, account)
        if reply.status in _NO_HEAD:
            return None
        raise_for_status(reply.status, reply.headers, what)
        digest = reply.headers.get(_DIGEST)
        return checked_digest(digest, what) if digest else None

    async def authorization(self, repository: ImageRepository, account: RegistryAccount) -> str:
        """The ``Authorization`` header for the next request. Empty if the registry's challenge is not known yet."""
        return await self._authenticator.authorization(repository, account)

    async def challenged(self, repository: ImageRepository, url: str, account: RegistryAccount, refused: str) -> bool:
        """Ask for ``url`` again after a 401, to learn the challenge. True if another header than ``refused`` exists."""
        reply = await self._ask("HEAD", repository, url, refused)
        return reply.status == 200 or self.learned(reply, repository, account, refused)

    async def probe(self, repository: ImageRepository, digest: str, authorization: str) -> RegistryReply:
        """Ask for a manifest with exactly this ``Authorization`` header (empty: none), and return any answer."""
        return await self._ask("HEAD", repository, self._manifest_url(repository, digest), authorization)

    def learned(
        self, reply: RegistryReply, repository: ImageRepository, account: RegistryAccount, refused: str
    ) -> bool:
        """Remember the challenge of a 401, unless after a redirect. True if another header than ``refused`` exists."""
        if reply.status != 401 or not reply.own:
            return False
        return self._authenticator.challenged(repository, account, reply.headers.getall(CHALLENGE, []), refused)

    async def _ask(self, method: Method, repository: ImageRepository, url: str, authorization: str) -> RegistryReply:
        headers = {**_ACCEPT, "Authorization": authorization} if authorization else _ACCEPT
        ca = self._endpoints.ca(repository.registry)
        return await self._transport.ask(RegistryRequest(method, url, str(repository), headers, manifest.MAX_SIZE, ca))

    async def _authorized(
        self, method: Method, repository: ImageRepository, target: str, account: RegistryAccount
    ) -> RegistryReply:
        url = self._manifest_url(repository, target)
        header = await self._authenticator.authorization(repository, account)
        reply = await self._ask(method, repository, url, header)
        if self.learned(reply, repository, account, header):
            header = await self._authenticator.authorization(repository, account)
            reply = await self._ask(method, repository, url, header)
        return reply

    def _manifest_url(self, repository: ImageRepository, target: str) -> str:
        return f"{self._endpoints.base(repository.registry)}/v2/{repository.name}/manifests/{target}"


def image_name(repository: ImageRepository, target: str) -> str:
    return f"{repository}{'@' if ':' in target else ':'}{target}"
