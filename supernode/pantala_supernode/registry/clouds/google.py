"""Gets credentials for Google's Artifact Registry and Container Registry, by workload identity federation.

The credential configuration (``GOOGLE_APPLICATION_CREDENTIALS``) names a token file. Google's token service (STS)
exchanges this token for an access token. If the configuration names a service account, the IAM service exchanges the
access token for an access token of this account.
"""

import asyncio
import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import msgspec

from pantala_protocol.rules import foreign
from pantala_supernode.registry.clouds.accounts import CloudGrant
from pantala_supernode.registry.clouds.exchange import TokenServer, token_of
from pantala_supernode.registry.credentials import RegistryAccount
from pantala_supernode.registry.errors import CloudIdentityError
from pantala_supernode.registry.transport import RegistryTransport

_HOST = re.compile(r"(?:(?:[a-z0-9-]+\.)?gcr\.io|[a-z0-9-]+\.pkg\.dev)(?::[0-9]{1,5})?")
_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_USER = "oauth2accesstoken"
_SECONDS = 3600
_ADVICE = "Check the workload identity pool, its provider and its attribute condition"
_IMPERSONATION = "Let the identity of the pool use the service account (roles/iam.workloadIdentityUser)"


class _Format(msgspec.Struct):
    type: str = "text"
    subject_token_field_name: str = ""


class _Source(msgspec.Struct):
    file: str = ""
    format: _Format = msgspec.field(default_factory=_Format)


class _Impersonation(msgspec.Struct):
    token_lifetime_seconds: int = _SECONDS


class _Configuration(msgspec.Struct):
    type: str = ""
    audience: str = ""
    subject_token_type: str = ""
    token_url: str = ""
    credential_source: _Source = msgspec.field(default_factory=_Source)
    service_account_impersonation_url: str = ""
    service_account_impersonation: _Impersonation = msgspec.field(default_factory=_Impersonation)


class _Token(msgspec.Struct):
    access_token: str
    expires_in: int = _SECONDS


class _AccountToken(msgspec.Struct, rename="camel"):
    access_token: str
    expire_time: str


class GoogleIdentity:
    """The pod's identity at Google. ``wall`` returns seconds since the epoch."""

    def __init__(self, transport: RegistryTransport, configuration: Path, wall: Callable[[], float]) -> None:
        self._file = configuration
        self._wall = wall
        self._sts = TokenServer(transport, "Google's token service", _ADVICE)
        self._iam = TokenServer(transport, "Google's IAM service", _IMPERSONATION)

    def serves(self, host: str) -> bool:
        return _HOST.fullmatch(host) is not None

    async def grant(self, host: str) -> CloudGrant:
        """See :meth:`CloudIdentity.grant`. The token is valid for about an hour."""
        configuration = await asyncio.to_thread(self._configuration, host)
        form = {
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
            "audience": configuration.audience,
            "scope": _SCOPE,
            "requested_token_type": "urn:ietf:params:oauth:token-type:access_token",
            "subject_token": await self._subject(configuration.credential_source, host),
            "subject_token_type": configuration.subject_token_type,
        }
        body = await self._sts.post(host, configuration.token_url, form)
        token = self._sts.read(host, body, _Token)
        if not configuration.service_account_impersonation_url:
            return self._granted(host, token.access_token, token.expires_in)
        return await self._impersonated(host, configuration, token.access_token)

    async def _impersonated(self, host: str, configuration: _Configuration, token: str) -> CloudGrant:
        lifetime = configuration.service_account_impersonation.token_lifetime_seconds
        asked = msgspec.json.encode({"scope": [_SCOPE], "lifetime": f"{lifetime}s"})
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        body = await self._iam.post(host, configuration.service_account_impersonation_url, asked, headers)
        given = self._iam.read(host, body, _AccountToken)
        try:
            until = datetime.fromisoformat(given.expire_time).timestamp()
        except ValueError:
            raise self._iam.invalid(host) from None
        return self._granted(host, given.access_token, until - self._wall())

    def _granted(self, host: str, token: str, seconds: float) -> CloudGrant:
        return CloudGrant(RegistryAccount(_USER, token, only_host=host.partition(":")[0]), seconds)

    def _configuration(self, host: str) -> _Configuration:
        try:
            found = foreign.read(self._file.read_bytes(), _Configuration)
        except (OSError, ValueError):
            raise CloudIdentityError.of(
                host, f"the credential configuration {self._file} is not a readable JSON file. Check its ConfigMap"
            ) from None
        if found.type != "external_account" or not found.credential_source.file or not found.token_url:
            raise CloudIdentityError.of(
                host,
                f"the credential configuration {self._file} is not of type external_account with a token file. "
                "Create it with gcloud iam workload-identity-pools create-cred-config --credential-source-file",
            )
        return found

    async def _subject(self, source: _Source, host: str) -> str:
        if source.format.type != "json":
            return await token_of(Path(source.file), host)
        try:
            text = await asyncio.to_thread(Path(source.file).read_bytes)
            return foreign.read(text, dict[str, str])[source.format.subject_token_field_name]
        except (OSError, ValueError, KeyError):
            raise CloudIdentityError.of(
                host, f"the supernode's token file {source.file} lacks {source.format.subject_token_field_name!r}"
            ) from None
