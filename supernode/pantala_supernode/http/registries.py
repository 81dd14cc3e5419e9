"""The routes about registries: they only translate."""

from __future__ import annotations

import msgspec
from aiohttp import web

from pantala_protocol import registry
from pantala_protocol.registry import ManifestAnswer, Resolve, Resolved
from pantala_supernode.errors import (
    ForbiddenError,
    GatewayError,
    LimitedError,
    NotReadyError,
    RequestError,
)
from pantala_supernode.http.access import IDENTITY, Access
from pantala_supernode.http.messages import json_response, read_body, read_query
from pantala_supernode.http.operations import Operation, Problem
from pantala_supernode.images.manifests import ManifestService
from pantala_supernode.registry.endpoint import ImageRepository
from pantala_supernode.registry.errors import (
    RateLimitedError,
    RegistryDeniedError,
    RegistryError,
    RegistryUnreachableError,
)

_KINDS: dict[type[RegistryError], type[RequestError]] = {
    RateLimitedError: LimitedError,
    RegistryDeniedError: ForbiddenError,
    RegistryUnreachableError: NotReadyError,
}
"""What a registry's failure is to who asks; any other is the registry's: 502."""


class ManifestQuery(msgspec.Struct, frozen=True):
    """Which manifest, and for whom."""

    registry: str
    repository: str
    reference: str
    """A digest or a tag."""
    order: str = ""
    """Key of the image that the node was ordered to pull."""
    peer: str = ""
    """The node's name, where no token says it (``--no-auth``); empty: any node's order will do there."""


class RegistriesAPI:
    """What peers and the operator ask of registries."""

    def __init__(self, manifests: ManifestService) -> None:
        self._manifests = manifests

    def operations(self) -> tuple[Operation, ...]:
        """The table."""
        failures = {429: Problem, 502: Problem, 503: Problem}
        return (
            Operation(
                method="GET",
                path=registry.PATH,
                handler=self.manifest,
                access=Access.PEER,
                summary="A manifest, if the registry gives it to who asks; else the registry's challenges",
                answers={200: ManifestAnswer, **failures},
                query=ManifestQuery,
            ),
            Operation(
                method="POST",
                path=registry.RESOLVE,
                handler=self.resolve,
                access=Access.OPERATOR,
                summary="What an image is now, by the registry's word",
                answers={200: Resolved},
                body=Resolve,
            ),
        )

    async def manifest(self, request: web.Request) -> web.Response:
        """A manifest for a node."""
        asked = read_query(request, ManifestQuery)
        repository = ImageRepository(asked.registry, asked.repository)
        try:
            if asked.order:
                identity = request.get(IDENTITY)
                if identity is not None and not identity.node:
                    raise ForbiddenError("an order is a node's; the token is of none")
                node = identity.node if identity is not None else asked.peer
                return json_response(await self._manifests.ordered(node, asked.order, repository, asked.reference))
            shown = request.headers.get(registry.AUTHORIZATION, "")
            return json_response(await self._manifests.shown(repository, asked.reference, shown))
        except RegistryError as error:
            raise _KINDS.get(type(error), GatewayError)(str(error)) from error

    async def resolve(self, request: web.Request) -> web.Response:
        """What an image is."""
        return json_response(await self._manifests.resolve(await read_body(request, Resolve)))
