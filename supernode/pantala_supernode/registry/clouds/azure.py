"""Gets credentials for Azure's Container Registry (ACR), by Azure workload identity.

Microsoft Entra exchanges the pod's token for an access token. The registry exchanges the access token for a refresh
token, which its token server accepts as an identity token.
"""

import base64
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from pantala_protocol.rules.fields import decode
from pantala_supernode.registry.clouds.accounts import CloudGrant
from pantala_supernode.registry.clouds.exchange import TokenServer, token_of
from pantala_supernode.registry.credentials import RegistryAccount
from pantala_supernode.registry.transport import RegistryTransport

VARIABLES = ("AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_FEDERATED_TOKEN_FILE")
"""The environment variables that the webhook of Azure workload identity adds to a pod."""
_HOST = re.compile(r"(?:[a-z0-9-]+\.)+azurecr\.(?:io|cn|us)(?::[0-9]{1,5})?")
_AUTHORITY = "https://login.microsoftonline.com/"
_SCOPE = "https://containerregistry.azure.net/.default"
_ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_MOST_SECONDS = 24 * 3600.0
"""The most seconds for which a refresh token is used, even if it expires later."""
_UNKNOWN_SECONDS = 3600.0
"""The seconds for which a refresh token is used if its expiry cannot be read. Most are valid for three hours."""


class _EntraToken(msgspec.Struct):
    access_token: str


class _RefreshToken(msgspec.Struct):
    refresh_token: str


class _Claims(msgspec.Struct):
    exp: float


class AzureIdentity:
    """The pod's application at Microsoft Entra. ``wall`` returns seconds since the epoch."""

    def __init__(self, transport: RegistryTransport, environment: Mapping[str, str], wall: Callable[[], float]) -> None:
        self._client, self._tenant, file = (environment[name] for name in VARIABLES)
        self._file = Path(file)
        self._authority = environment.get("AZURE_AUTHORITY_HOST") or _AUTHORITY
        self._wall = wall
        self._entra = TokenServer(
            transport,
            f"Microsoft Entra for the client {self._client}",
            "Check the federated credential: its issuer and the subject, the supernode's service account",
        )
        self._acr = TokenServer(transport, "the registry's token exchange", "Give the identity the role AcrPull")

    def serves(self, host: str) -> bool:
        return _HOST.fullmatch(host) is not None

    async def grant(self, host: str) -> CloudGrant:
        """See :meth:`CloudIdentity.grant`. The refresh token is valid for about three hours."""
        form = {
            "client_id": self._client,
            "grant_type": "client_credentials",
            "scope": _SCOPE,
            "client_assertion_type": _ASSERTION,
            "client_assertion": await token_of(self._file, host),
        }
        url = f"{self._authority.rstrip('/')}/{self._tenant}/oauth2/v2.0/token"
        token = self._entra.read(host, await self._entra.post(host, url, form), _EntraToken).access_token
        name = host.partition(":")[0]
        form = {"grant_type": "access_token", "service": name, "tenant": self._tenant, "access_token": token}
        body = await self._acr.post(host, f"https://{host}/oauth2/exchange", form)
        refresh = self._acr.read(host, body, _RefreshToken).refresh_token
        return CloudGrant(RegistryAccount(identity_token=refresh, only_host=name), self._seconds(refresh))

    def _seconds(self, token: str) -> float:
        """The seconds for which a JSON Web Token is valid. Its signature is not checked; the registry does that."""
        try:
            payload = token.split(".")[1]
            claims = base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))
            return min(decode(claims, _Claims).exp - self._wall(), _MOST_SECONDS)
        except (IndexError, ValueError):
            return _UNKNOWN_SECONDS
