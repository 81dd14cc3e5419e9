"""Requests to the supernodes for manifests, and for rights to blobs: ``GET /api/v1/registry/...``."""

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TypeVar

import aiohttp

from pantala_peer.mirror.demand import BlobOrigin
from pantala_peer.mirror.errors import MirrorError, OwnerUnreachableError, SlowError
from pantala_process.http import bearer, read_bounded
from pantala_process.tls.contexts import TLSContexts
from pantala_protocol import __version__, registry, task_id
from pantala_protocol.image import ImageRepository
from pantala_protocol.registry import BlobAnswer, ManifestAnswer
from pantala_protocol.rules.fields import decode

_MAX_ANSWER = 2 * registry.MAX_MANIFEST
"""The largest answer in bytes. In JSON, a manifest is a third larger because of base64."""

_TIMEOUT = aiohttp.ClientTimeout(total=10, connect=1)
"""Longer than the mirror's deadline, because a late answer is cached for the next client."""

_T = TypeVar("_T")


class SupernodeRegistries:
    """Sends requests about registries to supernodes. ``answering`` returns the URL of a task's owner if it answers.

    All requests for manifests of a repository go to one supernode, which caches the registry's decisions about clients.
    """

    def __init__(
        self,
        answering: Callable[[str], str | None],
        node: str,
        *,
        token_file: Path | None,
        tls: TLSContexts | None = None,
    ) -> None:
        self._answering = answering
        self._node = node
        self._token_file = token_file
        self._tls = tls
        self._client: aiohttp.ClientSession | None = None

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        connector, agent = aiohttp.TCPConnector(limit=128), f"pantala-peer/{__version__}"
        async with aiohttp.ClientSession(
            timeout=_TIMEOUT, connector=connector, headers={"User-Agent": agent}
        ) as self._client:
            yield

    async def manifest(
        self, repository: ImageRepository, reference: str, authorization: str, order: str
    ) -> ManifestAnswer:
        """Ask for a manifest, with a client's ``authorization`` or for an order. Ends within 10 s.

        Raises :class:`MirrorError`.
        """
        query = {"registry": repository.registry, "repository": repository.name, "reference": reference}
        base = self._answering(task_id.compute(str(repository)))
        return await self._ask(base, registry.PATH, query, repository, authorization, order, ManifestAnswer)

    async def may_read(self, digest: str, origin: BlobOrigin) -> BlobAnswer:
        """Ask whether a client may read a blob. If evidence is missing, the supernode answers up to 8 s later.

        Raises :class:`MirrorError`.
        """
        repository = origin.repository
        query = {"registry": repository.registry, "repository": repository.name, "digest": digest, "peer": self._node}
        base = self._answering(task_id.of_blob(digest))
        return await self._ask(base, registry.BLOBS, query, repository, origin.authorization, origin.order, BlobAnswer)

    async def _ask(
        self,
        base: str | None,
        path: str,
        query: dict[str, str],
        repository: ImageRepository,
        authorization: str,
        order: str,
        kind: type[_T],
    ) -> _T:
        if base is None or self._client is None:
            raise OwnerUnreachableError(f"the supernode for {repository} does not answer; ask the registry")
        if order:
            query["order"] = order
        try:
            headers = bearer(self._token_file)
            if authorization and not order:
                headers[registry.AUTHORIZATION] = authorization
            async with self._client.get(
                base + path,
                params=query,
                headers=headers,
                allow_redirects=False,
                ssl=True if self._tls is None else self._tls.client,
            ) as response:
                content = await read_bounded(response, _MAX_ANSWER)
        except TimeoutError:
            raise SlowError(f"the supernode did not answer in time for {repository}") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise OwnerUnreachableError(f"the supernode for {repository} cannot be reached: {error}") from None
        if response.status != 200:
            raise MirrorError(f"the supernode answered {response.status} for {repository}")
        try:
            return decode(content, kind)
        except ValueError as error:
            raise MirrorError(f"the supernode's answer for {repository} is not valid: {error}") from None
