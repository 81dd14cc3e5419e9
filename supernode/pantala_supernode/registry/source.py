"""Reads blobs from registries for the CDN."""

import contextlib
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace

from multidict import CIMultiDict

from pantala_protocol.image import ImageRepository
from pantala_supernode import errors
from pantala_supernode.origin.http import HTTPReader
from pantala_supernode.origin.source import Answer, Resume
from pantala_supernode.registry.api import RegistryAPI
from pantala_supernode.registry.credentials import ANONYMOUS, POD_IDENTITY, RegistryAccount
from pantala_supernode.registry.endpoint import RegistryEndpoints, RepositoryLocation
from pantala_supernode.registry.errors import REFUSALS, from_refusal, raise_for_status
from pantala_supernode.registry.transport import RegistryReply
from pantala_supernode.tasks.copy import FileSource

_GRANTED, _REFUSED = (RegistryReply(status, CIMultiDict(), b"", own=True) for status in (200, 401))
"""What the body of a blob, or the lack of it, means for the authentication."""


@dataclass(frozen=True, slots=True)
class RegistryReader:
    """Reads the blobs of :meth:`RegistryEndpoints.blob`. ``origins`` reads every other source.

    A source's ``Authorization`` header identifies the account. A registry with a token server receives a token instead,
    which is valid for one repository.
    """

    api: RegistryAPI
    endpoints: RegistryEndpoints
    origins: HTTPReader

    @asynccontextmanager
    async def open(self, source: FileSource, resume: Resume | None = None) -> AsyncIterator[Answer]:
        repository = self.endpoints.repository_of(source.url)
        async with AsyncExitStack() as stack:
            if repository is None:
                yield await stack.enter_async_context(self.origins.open(source, resume))
            else:
                account = _account(repository, source)
                yield await self.api.first(
                    repository, lambda location: self._open(stack, location, account, source, resume)
                )

    async def _open(
        self,
        stack: AsyncExitStack,
        location: RepositoryLocation,
        account: RegistryAccount,
        source: FileSource,
        resume: Resume | None,
    ) -> Answer:
        digest, found, probed = source.url.rpartition("/")[2], list[Answer](), set[RepositoryLocation]()

        async def opened(place: RepositoryLocation, header: str) -> bool:
            with contextlib.suppress(errors.SourceUnauthorizedError):
                found.append(await stack.enter_async_context(self._at(place, source, header, resume)))
            return bool(found)

        async def ask(place: RepositoryLocation, header: str) -> RegistryReply:
            """Request the blob. After the first refusal at a place, request its head, which has the challenge."""
            if await opened(place, header):
                return _GRANTED
            if place in probed:
                return _REFUSED
            probed.add(place)
            reply = await self.api.probe_blob(place, digest, header)
            if reply.status != 200:
                return reply
            return _GRANTED if await opened(place, header) else _REFUSED

        try:
            reply = await self.api.authenticated(location, account, ask)
            if not found:
                raise_for_status(reply.status, reply.headers, f"a blob of {location}")
            return found[0]
        except REFUSALS as error:
            raise from_refusal(error, f"a blob of {location}") from None

    def _at(
        self, location: RepositoryLocation, source: FileSource, authorization: str, resume: Resume | None
    ) -> AbstractAsyncContextManager[Answer]:
        """Request a blob at one place, with this ``Authorization`` header (empty: none)."""
        headers = CIMultiDict(source.headers)
        headers.popall("Authorization", None)
        if authorization:
            headers["Authorization"] = authorization
        url = location.blob(source.url.rpartition("/")[2])
        return self.origins.open(replace(source, url=url, headers=headers), resume, ca=location.endpoint.ca)


def _account(repository: ImageRepository, source: FileSource) -> RegistryAccount:
    if source.pod_identity:
        return POD_IDENTITY
    header = CIMultiDict(source.headers).get("Authorization", "")
    try:
        return RegistryAccount.read(header) if header else ANONYMOUS
    except ValueError as error:
        raise errors.SourceHeadersError.with_action(f"A blob of {repository} cannot be requested: {error}") from None
