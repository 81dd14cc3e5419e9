"""Builds everything that the supernode needs to work with registries."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from pantala_supernode.origin.egress import EgressPolicy
from pantala_supernode.origin.http import HTTPReader
from pantala_supernode.origin.source import SourceReader
from pantala_supernode.registry import transport
from pantala_supernode.registry.api import RegistryAPI
from pantala_supernode.registry.authenticator import Authenticator
from pantala_supernode.registry.client import RegistryClient
from pantala_supernode.registry.endpoint import RegistryEndpoints
from pantala_supernode.registry.permissions import AccessCheck, RegistryPermissions
from pantala_supernode.registry.source import RegistryReader
from pantala_supernode.registry.transport import RegistryTimeouts, RegistryTransport


@dataclass(frozen=True)
class RegistryService:
    """The three parts that use registries: a client for manifests, a reader for blobs, a check of permissions."""

    client: RegistryClient
    reader: RegistryReader
    access: AccessCheck


@asynccontextmanager
async def open_service(
    endpoints: RegistryEndpoints,
    origins: SourceReader,
    *,
    egress: EgressPolicy,
    timeouts: RegistryTimeouts | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> AsyncIterator[RegistryService]:
    """Build the parts, and close their connections at the end. ``origins`` reads blobs with the system's authorities.

    Raises :class:`pantala_supernode.registry.errors.RegistryCertificateError` if an authority's file is not readable.
    """
    async with AsyncExitStack() as stack:
        asked = await stack.enter_async_context(RegistryTransport(egress, timeouts or RegistryTimeouts()))
        authenticator = Authenticator(asked, endpoints, clock)
        stack.push_async_callback(authenticator.close)
        api = RegistryAPI(asked, endpoints, authenticator)
        client = RegistryClient(api, clock)
        stack.push_async_callback(client.close)
        access = AccessCheck(api, RegistryPermissions(secrets.token_bytes(32), clock))
        stack.push_async_callback(access.close)
        private = await _private_sources(stack, endpoints, egress)
        yield RegistryService(client, RegistryReader(api, endpoints, origins, private), access)


async def _private_sources(
    stack: AsyncExitStack, endpoints: RegistryEndpoints, egress: EgressPolicy
) -> Mapping[str, SourceReader]:
    found: dict[str, SourceReader] = {}
    for registry, ca in endpoints.authorities.items():
        tls = await asyncio.to_thread(transport.trust, ca)
        found[registry] = await stack.enter_async_context(HTTPReader(egress=egress, tls=tls))
    return found
