"""Gets temporary keys of an AWS role in exchange for the pod's token, by IRSA or by EKS Pod Identity."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import urlsplit
from xml.etree import ElementTree

import msgspec

from pantala_supernode.registry.clouds.exchange import TokenServer, token_of
from pantala_supernode.registry.clouds.signature import AWSKeys
from pantala_supernode.registry.transport import RegistryTransport

AGENTS: Final = frozenset({"169.254.170.23", "fd00:ec2::23"})
"""The addresses of the EKS Pod Identity agent, which runs on each node."""
AGENT_PATH: Final = "/v1/credentials"
_SECONDS = "3600"
_SESSION = "pantala-supernode"


class KeySource(Protocol):
    """Gets the keys of a role."""

    async def keys(self, host: str, region: str) -> AWSKeys:
        """Keys for a registry. Raises :class:`pantala_supernode.registry.errors.RegistryError`."""


class WebIdentityKeys:
    """IRSA: the token service (STS) exchanges a token of the cluster for the keys of a role."""

    def __init__(self, transport: RegistryTransport, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._role = environment["AWS_ROLE_ARN"]
        self._file = Path(environment["AWS_WEB_IDENTITY_TOKEN_FILE"])
        self._server = TokenServer(
            transport,
            f"AWS STS for the role {self._role}",
            "Check that the role's trust policy names the cluster's OIDC provider and the supernode's service account",
        )

    async def keys(self, host: str, region: str) -> AWSKeys:
        form = {
            "Action": "AssumeRoleWithWebIdentity",
            "Version": "2011-06-15",
            "RoleArn": self._role,
            "RoleSessionName": self._environment.get("AWS_ROLE_SESSION_NAME") or _SESSION,
            "DurationSeconds": _SECONDS,
            "WebIdentityToken": await token_of(self._file, host),
        }
        body = await self._server.post(host, sts_url(self._environment, region), form)
        try:
            found = ElementTree.fromstring(body).find(".//{*}Credentials")  # noqa: S314 - AWS's own answer, over TLS
        except ElementTree.ParseError:
            found = None
        given = [found.findtext(f"{{*}}{name}") if found is not None else None for name in _STS_FIELDS]
        access, secret, session = (text or "" for text in given)
        if not (access and secret and session):
            raise self._server.invalid(host)
        return AWSKeys(access, secret, session)


class PodIdentityKeys:
    """EKS Pod Identity: an agent on the node exchanges a token of the cluster for the keys of a role.

    The agent's address is link-local. ``agent`` creates a transport that reaches only this address, and that is used
    only for this request. See docs/adr/0016-cloud-identities.md.
    """

    def __init__(
        self,
        transport: RegistryTransport,
        environment: Mapping[str, str],
        agent: Callable[[str], RegistryTransport],
        agents: frozenset[str] = AGENTS,
    ) -> None:
        self._url = environment["AWS_CONTAINER_CREDENTIALS_FULL_URI"]
        self._file = Path(environment["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"])
        parts = urlsplit(self._url)
        self._is_agent = parts.hostname in agents and (parts.scheme, parts.path) == ("http", AGENT_PATH)
        self._server = TokenServer(
            agent(parts.hostname or "") if self._is_agent else transport,
            "the EKS Pod Identity agent",
            "Check the Pod Identity association of the supernode's service account",
        )

    async def keys(self, host: str, region: str) -> AWSKeys:
        headers = {"Authorization": await token_of(self._file, host)}
        body = await self._server.get(host, self._url, headers, trusted=self._is_agent)
        found = self._server.read(host, body, _AgentReply)
        return AWSKeys(found.access_key_id, found.secret_access_key, found.token)


class _AgentReply(msgspec.Struct, rename="pascal"):
    access_key_id: str
    secret_access_key: str
    token: str


_SUFFIXES = {"cn": "amazonaws.com.cn", "eusc": "amazonaws.eu"}
"""The domains of regions that do not belong to amazonaws.com."""
_STS_FIELDS = ("AccessKeyId", "SecretAccessKey", "SessionToken")


def source(
    transport: RegistryTransport, environment: Mapping[str, str], agent: Callable[[str], RegistryTransport]
) -> KeySource | None:
    """The source of keys that the pod's environment describes. ``None``: the pod has no identity on AWS."""
    if environment.get("AWS_ROLE_ARN") and environment.get("AWS_WEB_IDENTITY_TOKEN_FILE"):
        return WebIdentityKeys(transport, environment)
    names = ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")
    return PodIdentityKeys(transport, environment, agent) if all(map(environment.get, names)) else None


def sts_url(environment: Mapping[str, str], region: str) -> str:
    """The URL of the token service in the pod's region, or in the registry's region if the pod's is not known."""
    own = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or region
    fips = "-fips" if environment.get("AWS_USE_FIPS_ENDPOINT", "").lower() == "true" else ""
    suffix = _SUFFIXES.get(own.partition("-")[0], "amazonaws.com")
    return endpoint(environment, "STS") or f"https://sts{fips}.{own}.{suffix}/"


def endpoint(environment: Mapping[str, str], service: str) -> str:
    """The URL that the environment sets for a service, as for AWS's own programs. Empty: no URL is set."""
    url = environment.get(f"AWS_ENDPOINT_URL_{service}") or environment.get("AWS_ENDPOINT_URL") or ""
    return f"{url.rstrip('/')}/" if url else ""
