"""Gets credentials for Amazon's Elastic Container Registry (ECR)."""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from pantala_supernode.registry.clouds.accounts import CloudGrant
from pantala_supernode.registry.clouds.aws_keys import KeySource, endpoint
from pantala_supernode.registry.clouds.exchange import TokenServer
from pantala_supernode.registry.clouds.signature import AWSScope, signed
from pantala_supernode.registry.credentials import RegistryAccount
from pantala_supernode.registry.transport import RegistryTransport

_HOST = re.compile(
    r"[0-9]{12}\.dkr[.-]ecr(-fips)?\.([a-z0-9][a-z0-9-]{0,40})\."
    r"(amazonaws\.com|amazonaws\.com\.cn|amazonaws\.eu|on\.aws|on\.amazonwebservices\.com\.cn)(?::[0-9]{1,5})?"
)
_TARGET = "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken"
_API = {"on.aws": "api.aws", "on.amazonwebservices.com.cn": "api.amazonwebservices.com.cn"}
"""The API's domain for each registry domain with IPv6."""


class ECRHost(NamedTuple):
    """The parts of a registry's host name."""

    region: str
    fips: bool
    domain: str

    @property
    def api(self) -> str:
        if self.fips:
            return f"https://ecr-fips.{self.region}.{_API.get(self.domain, self.domain)}/"
        prefix = "ecr" if self.domain in _API else "api.ecr"
        return f"https://{prefix}.{self.region}.{_API.get(self.domain, self.domain)}/"


def parse(host: str) -> ECRHost | None:
    match = _HOST.fullmatch(host)
    return ECRHost(match[2], match[1] is not None, match[3]) if match else None


class AWSIdentity:
    """The pod's role on AWS. ``wall`` returns seconds since the epoch."""

    def __init__(
        self,
        transport: RegistryTransport,
        environment: Mapping[str, str],
        keys: KeySource,
        wall: Callable[[], float],
    ) -> None:
        self._environment = environment
        self._keys = keys
        self._wall = wall
        self._server = TokenServer(
            transport, "Amazon ECR", "Allow the role ecr:GetAuthorizationToken, and check the clock of the node"
        )

    def serves(self, host: str) -> bool:
        return parse(host) is not None

    async def grant(self, host: str) -> CloudGrant:
        """See :meth:`CloudIdentity.grant`. The token is valid for 12 hours at all registries of the region."""
        found = parse(host)
        if found is None:
            raise ValueError(f"{host!r} is not a registry of Amazon ECR")
        keys = await self._keys.keys(host, found.region)
        url, body = endpoint(self._environment, "ECR") or found.api, b"{}"
        headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": _TARGET}
        now = datetime.fromtimestamp(self._wall(), UTC)
        scope = AWSScope(found.region, "ecr")
        headers = signed("POST", url, headers, body, keys=keys, scope=scope, now=now)
        reply = self._server.read(host, await self._server.post(host, url, body, headers), _Reply)
        try:
            (given, *_) = reply.authorization_data
            account = RegistryAccount.decode(given.authorization_token)
        except ValueError:
            raise self._server.invalid(host) from None
        only = RegistryAccount(account.username, account.password, only_host=host.partition(":")[0])
        return CloudGrant(only, given.expires_at - self._wall())


class _Data(msgspec.Struct, rename="camel"):
    authorization_token: str
    expires_at: float


class _Reply(msgspec.Struct, rename="camel"):
    authorization_data: list[_Data]
