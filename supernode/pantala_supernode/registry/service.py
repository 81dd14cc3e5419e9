"""Builds the parts that the supernode needs to work with registries."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from pantala_protocol.rules.rights import Rights
from pantala_supernode.origin.http import HTTPReader, SourceThrottle
from pantala_supernode.outbound import trust
from pantala_supernode.outbound.client import OutboundClient
from pantala_supernode.outbound.errors import OutboundError
from pantala_supernode.registry.access import AccessCheck
from pantala_supernode.registry.api import RegistryAPI
from pantala_supernode.registry.authenticator import Authenticator
from pantala_supernode.registry.client import RegistryClient
from pantala_supernode.registry.clouds.accounts import AccountChoice, CloudAccounts
from pantala_supernode.registry.clouds.environment import identities
from pantala_supernode.registry.endpoint import RegistryEndpoints
from pantala_supernode.registry.errors import RegistryCertificateError
from pantala_supernode.registry.mapping.attempts import EndpointAttempts
from pantala_supernode.registry.source import RegistryReader
from pantala_supernode.registry.transport import TOTAL, RegistryTransport


@dataclass(frozen=True)
class RegistryService:
    """The parts that use registries, for manifests, blobs, rights and accounts."""

    client: RegistryClient
    reader: RegistryReader
    access: AccessCheck
    rights: Rights
    """The rights of clients to manifests and blobs."""
    choice: AccountChoice


@asynccontextmanager
async def open_service(
    endpoints: RegistryEndpoints,
    outbound: OutboundClient,
    *,
    throttle: SourceThrottle | None = None,
    total: float = TOTAL,
    clock: Callable[[], float] = time.monotonic,
    wall: Callable[[], float] = time.time,
    environment: Mapping[str, str] | None = None,
) -> AsyncIterator[RegistryService]:
    """Build the parts, and close them at the end of the context.

    ``total``: the time limit for one small answer, in seconds. ``environment``: the variables that describe the cloud
    identity. Raises :class:`pantala_supernode.registry.errors.RegistryCertificateError` if an authority's file has no
    readable certificate.
    """
    for ca in endpoints.authorities:
        try:
            await asyncio.to_thread(trust.check, ca)
        except OutboundError as error:
            raise RegistryCertificateError.of(str(ca), "the file does not contain readable certificates") from error
    async with AsyncExitStack() as stack:
        asked = RegistryTransport(outbound, total)
        found = await stack.enter_async_context(identities(environment or {}, asked, wall))
        clouds = CloudAccounts(found, clock)
        choice = AccountChoice(endpoints, clouds)
        authenticator = Authenticator(asked, clock)
        api = RegistryAPI(asked, EndpointAttempts(endpoints, clock), authenticator, clouds)
        client = RegistryClient(api, choice, clock)
        rights = Rights(secrets.token_bytes(32))
        access = AccessCheck(api, rights, clock)
        for each in (clouds, authenticator, client, access):
            stack.push_async_callback(each.flight.close)
        reader = RegistryReader(api, endpoints, HTTPReader(outbound, throttle))
        yield RegistryService(client, reader, access, rights, choice)
