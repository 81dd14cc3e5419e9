"""The routes by which peers and the operator ask registries. Handlers only convert between HTTP and method calls."""

import msgspec
from aiohttp import web

from pantala_process.http import ErrorBody, json_response
from pantala_protocol import registry
from pantala_protocol.image import ImageRepository
from pantala_protocol.registry import BlobAnswer, ManifestAnswer, Resolve, Resolved
from pantala_protocol.sync import WantedBlob
from pantala_supernode.errors import ForbiddenError, GatewayError, LimitedError, NotReadyError, RequestError
from pantala_supernode.http.access import IDENTITY, Access
from pantala_supernode.http.clients import ClientLimits, certified
from pantala_supernode.http.operations import Operation, read_body, read_query
from pantala_supernode.images.service import ImageService
from pantala_supernode.registry.errors import (
    RateLimitedError,
    RegistryDeniedError,
    RegistryError,
    RegistryUnreachableError,
)

_ERRORS: dict[type[RegistryError], type[RequestError]] = {
    RateLimitedError: LimitedError,
    RegistryDeniedError: ForbiddenError,
    RegistryUnreachableError: NotReadyError,
}
"""The error of the API for each error of a registry. Any other error becomes a :class:`GatewayError` (502)."""


class ManifestQuery(msgspec.Struct, frozen=True):
    """The query of a request for a manifest."""

    registry: str
    repository: str
    reference: str
    """A digest or a tag."""
    order: str = ""
    """The key of the ordered image, if an order needs the manifest. Then the order's credentials are used."""
    peer: str = ""
    """The node's name. Used only with ``--no-auth``, because otherwise the token names the node. Empty: any node."""


class BlobQuery(msgspec.Struct, frozen=True):
    """The query of a request whether a client may read a blob."""

    registry: str
    repository: str
    digest: str
    order: str = ""
    """The key of the ordered image, if an order needs the blob. Then the order's credentials are used."""
    peer: str = ""
    """As in :class:`ManifestQuery`."""


class RegistriesAPI:
    """The operations to ask registries, for peers and the operator."""

    def __init__(self, images: ImageService, limits: ClientLimits) -> None:
        self._limits = limits
        self._images = images
        self._manifests = images.manifests

    def operations(self) -> tuple[Operation, ...]:
        manifest = {200: ManifestAnswer, 429: ErrorBody, 502: ErrorBody, 503: ErrorBody}
        read, resolve = "Read a manifest that the client may read, or the registry's challenges", registry.RESOLVE
        ask, blob = "Ask whether a client may read a blob", {200: BlobAnswer, 503: ErrorBody}
        op, text, resolved = Access.OPERATOR, "Resolve an image at its registry", {200: Resolved}
        return (
            Operation("GET", registry.PATH, self.manifest, Access.PEER, read, manifest, query=ManifestQuery),
            Operation("GET", registry.BLOBS, self.blob, Access.PEER, ask, blob, query=BlobQuery),
            Operation("POST", resolve, self.resolve, op, text, resolved, body=Resolve),
        )

    async def manifest(self, request: web.Request) -> web.StreamResponse:
        query = read_query(request, ManifestQuery)
        await self._limits.turn(certified(request))
        repository = ImageRepository(query.registry, query.repository)
        try:
            if query.order:
                node = _node(request, query)
                answer = await self._manifests.ordered(node, query.order, repository, query.reference)
            else:
                shown = request.headers.get(registry.AUTHORIZATION, "")
                self._images.sources.check(_node(request, query), repository, shown)
                answer = await self._manifests.shown(repository, query.reference, shown)
        except RegistryError as error:
            raise _ERRORS.get(type(error), GatewayError)(str(error)) from error
        return await self._limits.send(request, answer)

    async def blob(self, request: web.Request) -> web.Response:
        query = read_query(request, BlobQuery)
        await self._limits.turn(certified(request))
        shown = "" if query.order else request.headers.get(registry.AUTHORIZATION, "")
        wanted = WantedBlob(query.registry, query.repository, query.digest, credential=shown, order=query.order)
        return json_response(await self._images.ask(_node(request, query), wanted))

    async def resolve(self, request: web.Request) -> web.Response:
        return json_response(await self._manifests.resolve(await read_body(request, Resolve)))


def _node(request: web.Request, query: ManifestQuery | BlobQuery) -> str:
    """The node of the peer. Raises :class:`ForbiddenError` for an order if the token names no node."""
    identity = request.get(IDENTITY)
    if query.order and identity is not None and not identity.node:
        raise ForbiddenError("only a peer's token, which names its node, may read images of that node's orders")
    return identity.node if identity is not None else query.peer
