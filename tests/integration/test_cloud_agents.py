"""Keys from the agent on the node."""

from contextlib import AsyncExitStack

import pytest

from pantala_supernode.outbound.client import OutboundClient
from pantala_supernode.registry import errors
from pantala_supernode.registry.clouds.aws_keys import PodIdentityKeys
from pantala_supernode.registry.clouds.environment import agent_client
from pantala_supernode.registry.clouds.signature import AWSKeys
from pantala_supernode.registry.transport import RegistryTransport
from tests.support.cloud_lab import CloudLab
from tests.support.cloud_stage import lab as lab
from tests.support.cloud_stage import read, resolve
from tests.support.clouds import ECR, TokenServers
from tests.support.fake_registry import LAYER
from tests.support.outbound import local_egress

# -- EKS Pod Identity


def agents_variables(lab: CloudLab, url: str) -> dict[str, str]:
    token = lab.world.write_token("pods.eks.amazonaws.com")
    return {
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": url,
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(token),
        "AWS_ENDPOINT_URL_ECR": f"https://api.ecr.eu-west-1.amazonaws.com:{lab.port()}",
    }


async def test_the_agent_on_the_node_gives_keys(lab: CloudLab) -> None:
    registry = await lab.registry(ECR)
    async with (
        TokenServers(lab.world, None) as agent,
        lab.service(agents_variables(lab, f"{agent.url}/v1/credentials")) as opened,
    ):
        await resolve(opened, registry)
        assert LAYER == await read(opened, registry)
    assert ["agent", "ecr"] == lab.world.exchanges


async def test_the_agents_address_is_reached_by_its_own_client_only(lab: CloudLab) -> None:
    """Loopback stands for the link-local address."""
    async with (
        TokenServers(lab.world, None) as agent,
        OutboundClient(egress=local_egress()) as outbound,
        AsyncExitStack() as stack,
    ):
        url, asked = f"{agent.url}/v1/credentials", list[str]()

        def transport(address: str) -> RegistryTransport:
            asked.append(address)
            client = agent_client(address)
            stack.push_async_exit(client)
            return RegistryTransport(client)

        agents = frozenset({"127.0.0.1"})
        variables = agents_variables(lab, url)
        own = PodIdentityKeys(RegistryTransport(outbound), variables, transport, agents)
        assert isinstance(await own.keys(ECR, "eu-west-1"), AWSKeys)
        assert ["127.0.0.1"] == asked
        for other in (f"{agent.url}/latest/meta-data", f"{agent.url}/v1/credentials/../x", f"{agent.url}/"):
            PodIdentityKeys(RegistryTransport(outbound), agents_variables(lab, other), transport, agents)
        assert ["127.0.0.1"] == asked, "another path is not the agent's"
        elsewhere = PodIdentityKeys(transport("169.254.170.23"), variables, transport, frozenset())
        with pytest.raises(errors.RegistryDeniedError):
            await elsewhere.keys(ECR, "eu-west-1")


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data/iam/security-credentials/x",
        "http://169.254.170.2/v2/credentials/x",
        "http://169.254.170.23/v1/other",
        "http://169.254.170.23:80@evil.example/v1/credentials",
        "http://agent.example/v1/credentials",
        "http://10.0.0.1/v1/credentials",
        "ftp://169.254.170.23/v1/credentials",
        "/v1/credentials",
    ],
)
async def test_another_address_is_never_asked_for_keys(lab: CloudLab, url: str) -> None:
    registry = await lab.registry(ECR)
    async with lab.service(agents_variables(lab, url)) as opened:
        with pytest.raises(errors.CloudIdentityError, match="https:"):
            await resolve(opened, registry)


async def test_the_agent_refuses_another_service_account(lab: CloudLab) -> None:
    registry = await lab.registry(ECR)
    async with TokenServers(lab.world, None) as agent:
        variables = agents_variables(lab, f"{agent.url}/v1/credentials")
        lab.world.write_token("pods.eks.amazonaws.com", subject="system:serviceaccount:a:b")
        async with lab.service(variables) as opened:
            with pytest.raises(errors.CloudIdentityError, match="Pod Identity association"):
                await resolve(opened, registry)
