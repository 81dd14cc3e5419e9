"""Blobs of registries as a source of the CDN."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

from multidict import CIMultiDict

from pantala_supernode import errors
from pantala_supernode.origin.source import Answer, Resume, SourceReader
from pantala_supernode.registry import answer
from pantala_supernode.registry.api import RegistryAPI
from pantala_supernode.registry.credentials import ANONYMOUS, Keyring, RegistryAccount
from pantala_supernode.registry.endpoint import ImageRepository, RegistryEndpoints
from pantala_supernode.tasks.copy import FileSource

_STATUS: dict[type[errors.SourceError], int] = {
    errors.SourceUnauthorizedError: 401,
    errors.SourceForbiddenError: 403,
    errors.SourceNotFoundError: 404,
}


class RegistryReader:
    """Reads blobs by the URLs of :meth:`RegistryClient.blob`, and anything else as ``origins`` does.

    The ``Authorization`` header of an order says who asks; without one ``keyring`` does. It is not what is sent: a
    registry that has a token server is shown a token for that repository, which is renewed when it is used up.
    ``private`` are the sources for registries with an authority of their own.
    """

    def __init__(
        self,
        api: RegistryAPI,
        endpoints: RegistryEndpoints,
        origins: SourceReader,
        private: Mapping[str, SourceReader] | None = None,
        keyring: Keyring | None = None,
    ) -> None:
        self._api = api
        self._endpoints = endpoints
        self._origins = origins
        self._private = private or {}
        self._keyring = keyring or Keyring()

    @asynccontextmanager
    async def open(self, source: FileSource, resume: Resume | None = None) -> AsyncIterator[Answer]:
        """See :meth:`pantala_supernode.origin.source.Source.open`."""
        repository = self._endpoints.repository_of(source.url)
        async with AsyncExitStack() as stack:
            if repository is None:
                yield await stack.enter_async_context(self._origins.open(source, resume))
            else:
                yield await self._open(stack, repository, source, resume)

    async def _open(
        self, stack: AsyncExitStack, repository: ImageRepository, source: FileSource, resume: Resume | None
    ) -> Answer:
        reader = self._private.get(repository.registry.lower(), self._origins)
        account = self._account(repository, source.headers)
        header = await self._api.authorization(repository, account)
        try:
            try:
                return await stack.enter_async_context(reader.open(_with(source, header), resume))
            except errors.SourceUnauthorizedError:
                if not await self._api.challenged(repository, source.url, account, header):
                    raise
            header = await self._api.authorization(repository, account)
            return await stack.enter_async_context(reader.open(_with(source, header), resume))
        except tuple(_STATUS) as error:
            answer.raise_for_status(_STATUS[type(error)], {}, f"a blob of {repository}")
            raise

    def _account(self, repository: ImageRepository, headers: Mapping[str, str]) -> RegistryAccount:
        given = CIMultiDict(headers).get("Authorization", "")
        try:
            return RegistryAccount.read(given) if given else next(iter(self._keyring.find(str(repository))), ANONYMOUS)
        except ValueError as error:
            raise errors.SourceHeadersError(
                f"a blob of {repository} cannot be asked for: {error}. {errors.SourceHeadersError.reason.action}"
            ) from None


def _with(source: FileSource, authorization: str) -> FileSource:
    sent = CIMultiDict(source.headers)
    sent.popall("Authorization", None)
    if authorization:
        sent["Authorization"] = authorization
    return replace(source, headers=sent)
