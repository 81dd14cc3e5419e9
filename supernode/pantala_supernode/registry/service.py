"""All that the supernode does with registries, put together."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from aiohttp.abc import AbstractResolver

from pantala_supernode.origin.egress import EgressPolicy
from pantala_supernode.origin.http import HTTPReader
from pantala_supernode.origin.source import SourceReader
from pantala_supernode.registry import transport
from pantala_supernode.registry.api import RegistryAPI
from pantala_supernode.registry.authenticator import Authenticator
from pantala_supernode.registry.client import Freshness, RegistryClient
from pantala_supernode.registry.endpoint import RegistryEndpoints
from pantala_supernode.registry.permissions import RegistryPermissions
from pantala_supernode.registry.relay import Relay
from pantala_supernode.registry.source import RegistryReader
from pantala_supernode.registry.transport import RegistryTimeouts, Transport


@dataclass(frozen=True)
class RegistryService:
    """What registries are asked through."""

    client: RegistryClient
    source: RegistryReader
    relay: Relay


@asynccontextmanager
async def open_service(
    endpoints: RegistryEndpoints,
    origins: SourceReader,
    *,
    egress: EgressPolicy | None = None,
    patience: RegistryTimeouts | None = None,
    freshness: Freshness | None = None,
    resolver: AbstractResolver | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> AsyncIterator[RegistryService]:
    """Ask registries while the context is entered; ``origins`` reads blobs of those without an authority of their own.

    Raises :class:`pantala_supernode.registry.errors.RegistryCertificateError` for an authority that cannot be read.
    """
    async with AsyncExitStack() as stack:
        asked = await stack.enter_async_context(Transport(egress=egress, patience=patience, resolver=resolver))
        authenticator = Authenticator(asked, endpoints, clock)
        stack.push_async_callback(authenticator.close)
        api = RegistryAPI(asked, endpoints, authenticator)
        client = RegistryClient(api, endpoints, clock, freshness)
        stack.push_async_callback(client.close)
        relay = Relay(api, RegistryPermissions(secrets.token_bytes(32)), clock)
        stack.push_async_callback(relay.close)
        private = await _private_sources(stack, endpoints, egress, resolver)
        yield RegistryService(client, RegistryReader(api, endpoints, origins, private), relay)


async def _private_sources(
    stack: AsyncExitStack, endpoints: RegistryEndpoints, egress: EgressPolicy | None, resolver: AbstractResolver | None
) -> Mapping[str, SourceReader]:
    found: dict[str, SourceReader] = {}
    for registry, ca in endpoints.authorities.items():
        tls = await asyncio.to_thread(transport.trust, ca)
        found[registry] = await stack.enter_async_context(HTTPReader(egress=egress, tls=tls, resolver=resolver))
    return found
