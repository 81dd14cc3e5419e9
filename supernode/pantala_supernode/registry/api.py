"""The distribution API's requests, made in the name of an account."""

from __future__ import annotations

from typing import Final, Literal

from pantala_supernode.registry import answer, document, manifest
from pantala_supernode.registry.authenticator import Authenticator
from pantala_supernode.registry.credentials import RegistryAccount
from pantala_supernode.registry.document import ManifestDocument
from pantala_supernode.registry.endpoint import ImageRepository, RegistryEndpoints
from pantala_supernode.registry.transport import RegistryReply, RegistryRequest, Transport

CHALLENGE: Final = "WWW-Authenticate"
_ACCEPT = {"Accept": ", ".join(manifest.MEDIA_TYPES)}
_DIGEST = "Docker-Content-Digest"
_NO_HEAD = frozenset({400, 405, 406, 415, 500, 501})
"""Statuses of registries that do not know HEAD; GET says what is really wrong."""

Method = Literal["GET", "HEAD"]


class RegistryAPI:
    """Asks registries, and tells them who asks if they want to know."""

    def __init__(self, transport: Transport, endpoints: RegistryEndpoints, authenticator: Authenticator) -> None:
        self._transport = transport
        self._endpoints = endpoints
        self._authenticator = authenticator

    async def manifest(self, repository: ImageRepository, target: str, account: RegistryAccount) -> ManifestDocument:
        """The manifest or index of a digest or a tag. Raises RegistryError."""
        what = shown(repository, target)
        reply = await self._authorized("GET", repository, target, account)
        answer.raise_for_status(reply.status, reply.headers, what)
        said = target if ":" in target else reply.headers.get(_DIGEST, "")
        return document.check(reply.body, reply.headers.get("Content-Type", ""), said, what)

    async def digest(self, repository: ImageRepository, tag: str, account: RegistryAccount) -> str:
        """What ``tag`` means; empty if the registry only tells it with the manifest. Raises RegistryError."""
        what = shown(repository, tag)
        reply = await self._authorized("HEAD", repository, tag, account)
        if reply.status in _NO_HEAD:
            return ""
        answer.raise_for_status(reply.status, reply.headers, what)
        said = reply.headers.get(_DIGEST, "")
        return document.digest(said, what) if said else ""

    async def authorization(self, repository: ImageRepository, account: RegistryAccount) -> str:
        """The header to begin with, as far as it is known what the registry wants; empty: none."""
        return await self._authenticator.authorization(repository, account)

    async def challenged(self, repository: ImageRepository, url: str, account: RegistryAccount, refused: str) -> bool:
        """Find out why ``url`` is answered 401; tells whether another header than ``refused`` can be made."""
        reply = await self.ask("HEAD", repository, url, refused)
        return reply.status == 200 or self.learned(reply, repository, account, refused)

    async def probe(self, repository: ImageRepository, digest: str, authorization: str) -> RegistryReply:
        """What the registry says to exactly this ``Authorization`` header (empty: none) about a manifest."""
        return await self.ask("HEAD", repository, self._manifest_url(repository, digest), authorization)

    async def ask(self, method: Method, repository: ImageRepository, url: str, authorization: str) -> RegistryReply:
        """One request, and no other. Raises RegistryError if there is no answer."""
        headers = {**_ACCEPT, "Authorization": authorization} if authorization else _ACCEPT
        ca = self._endpoints.ca(repository.registry)
        return await self._transport.ask(RegistryRequest(method, url, str(repository), headers, manifest.MAX_SIZE, ca))

    def learned(
        self, reply: RegistryReply, repository: ImageRepository, account: RegistryAccount, refused: str
    ) -> bool:
        """Whether the reply asks for a header that can be made. Who it redirected to has nothing to ask for."""
        values = reply.headers.getall(CHALLENGE, [])
        asked = reply.status == 401 and reply.own
        return asked and self._authenticator.challenged(repository, account, values, refused)

    async def _authorized(
        self, method: Method, repository: ImageRepository, target: str, account: RegistryAccount
    ) -> RegistryReply:
        url = self._manifest_url(repository, target)
        header = await self._authenticator.authorization(repository, account)
        reply = await self.ask(method, repository, url, header)
        if self.learned(reply, repository, account, header):
            header = await self._authenticator.authorization(repository, account)
            reply = await self.ask(method, repository, url, header)
        return reply

    def _manifest_url(self, repository: ImageRepository, target: str) -> str:
        return f"{self._endpoints.base(repository.registry)}/v2/{repository.name}/manifests/{target}"


def shown(repository: ImageRepository, target: str) -> str:
    """The image's name, for messages."""
    return f"{repository}{'@' if ':' in target else ':'}{target}"
