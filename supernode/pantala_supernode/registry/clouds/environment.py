"""Finds the supernode's identities in the pod's environment variables, which a cloud's webhook or the chart sets."""

import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from ipaddress import ip_address, ip_network
from pathlib import Path

from pantala_supernode.outbound.client import OutboundClient
from pantala_supernode.outbound.egress import EgressPolicy
from pantala_supernode.outbound.request import Limits
from pantala_supernode.registry.clouds import aws_keys, azure
from pantala_supernode.registry.clouds.accounts import CloudIdentity
from pantala_supernode.registry.clouds.aws import AWSIdentity
from pantala_supernode.registry.clouds.azure import AzureIdentity
from pantala_supernode.registry.clouds.google import GoogleIdentity
from pantala_supernode.registry.transport import RegistryTransport

PREFIXES = ("AWS_", "AZURE_", "GOOGLE_APPLICATION_CREDENTIALS")
"""The beginnings of the names of variables that are read here."""
EVERYWHERE = (ip_network("0.0.0.0/0"), ip_network("::/0"))
_AGENT_SECONDS = 10.0


@asynccontextmanager
async def identities(
    environment: Mapping[str, str], transport: RegistryTransport, wall: Callable[[], float] = time.time
) -> AsyncIterator[tuple[CloudIdentity, ...]]:
    """The identities that the variables of the pod describe. ``wall`` returns seconds since the epoch."""
    async with AsyncExitStack() as stack:

        def agent(address: str) -> RegistryTransport:
            client = agent_client(address)
            stack.push_async_exit(client)
            return RegistryTransport(client, _AGENT_SECONDS)

        found: list[CloudIdentity] = []
        keys = aws_keys.source(transport, environment, agent)
        if keys is not None:
            found.append(AWSIdentity(transport, environment, keys, wall))
        if file := environment.get("GOOGLE_APPLICATION_CREDENTIALS"):
            found.append(GoogleIdentity(transport, Path(file), wall))
        if all(map(environment.get, azure.VARIABLES)):
            found.append(AzureIdentity(transport, environment, wall))
        yield tuple(found)


def agent_client(address: str) -> OutboundClient:
    """A client that reaches only one address. It follows no redirect and uses no proxy."""
    egress = EgressPolicy(EVERYWHERE, exceptions=[ip_address(address)])
    return OutboundClient(egress=egress, limits=Limits(redirects=0))
