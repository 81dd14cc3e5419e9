"""The servers of three clouds in one test, and the pod of a supernode that uses them."""

import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trustme

from pantala_supernode.outbound.client import OutboundClient
from pantala_supernode.outbound.request import Timeouts
from pantala_supernode.outbound.trust import ALL, Trust
from pantala_supernode.registry.endpoint import RegistryEndpoints
from pantala_supernode.registry.service import RegistryService, open_service
from tests.support.clouds import CLIENT, NAMES, POOL, ROLE, TENANT, CloudRegistry, TokenServers, World
from tests.support.outbound import local_egress


@dataclass
class CloudLab:
    """The servers of one test, and the variables of the supernode's pod."""

    world: World
    tokens: TokenServers
    authority: Path
    tls: ssl.SSLContext
    stack: AsyncExitStack

    def port(self) -> str:
        return self.tokens.host.rpartition(":")[2]

    async def registry(self, name: str) -> CloudRegistry:
        made = await self.stack.enter_async_context(CloudRegistry(self.world, name, self.tls))
        made.push("1")
        return made  # type: ignore[no-any-return]

    @asynccontextmanager
    async def service(
        self, environment: Mapping[str, str], endpoints: RegistryEndpoints | None = None
    ) -> AsyncIterator[RegistryService]:
        """The supernode's service in a pod with these variables. All names lead to this host."""
        trust = Trust([(ALL, self.authority)])
        client = OutboundClient(
            egress=local_egress(),
            trust=trust,
            timeouts=Timeouts(connect=2.0),
            lookup=lambda _host, _port: ["127.0.0.1"],
        )
        async with (
            client as outbound,
            open_service(
                endpoints or RegistryEndpoints(),
                outbound,
                total=10.0,
                clock=self.world.clock,
                wall=self.world.wall,
                environment=environment,
            ) as opened,
        ):
            yield opened

    def irsa(self) -> dict[str, str]:
        return {
            "AWS_ROLE_ARN": ROLE,
            "AWS_WEB_IDENTITY_TOKEN_FILE": str(self.world.write_token("sts.amazonaws.com")),
            "AWS_REGION": "eu-west-1",
            "AWS_ENDPOINT_URL_STS": f"https://sts.eu-west-1.amazonaws.com:{self.port()}",
            "AWS_ENDPOINT_URL_ECR": f"https://api.ecr.eu-west-1.amazonaws.com:{self.port()}",
        }

    def google(self, *, impersonates: bool = True) -> dict[str, str]:
        configuration = {
            "type": "external_account",
            "audience": POOL,
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "token_url": f"https://sts.googleapis.com:{self.port()}/v1/token",
            "credential_source": {"file": str(self.world.write_token("pool-audience"))},
        }
        if impersonates:
            configuration["service_account_impersonation_url"] = (
                f"https://iamcredentials.googleapis.com:{self.port()}/v1/projects/-/serviceAccounts/x@y:generateAccessToken"
            )
        file = self.world.folder / "google.json"
        file.write_text(json.dumps(configuration))
        return {"GOOGLE_APPLICATION_CREDENTIALS": str(file)}

    def azure(self) -> dict[str, str]:
        return {
            "AZURE_CLIENT_ID": CLIENT,
            "AZURE_TENANT_ID": TENANT,
            "AZURE_FEDERATED_TOKEN_FILE": str(self.world.write_token("api://AzureADTokenExchange")),
            "AZURE_AUTHORITY_HOST": f"https://login.microsoftonline.com:{self.port()}/",
        }


@asynccontextmanager
async def cloud_lab(folder: Path) -> AsyncIterator[CloudLab]:
    authority, world = trustme.CA(), World(folder)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(*NAMES).configure_cert(tls)
    file = folder / "authority.pem"
    authority.cert_pem.write_to_path(str(file))
    async with AsyncExitStack() as stack:
        tokens = await stack.enter_async_context(TokenServers(world, tls))
        yield CloudLab(world, tokens, file, tls, stack)
