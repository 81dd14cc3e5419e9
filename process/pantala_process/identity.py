"""The identity of a client, from its projected ServiceAccount token. The cluster's public keys verify the token."""

import asyncio
import hashlib
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import msgspec
from cachetools import LRUCache

from pantala_process.http import bearer, read_bounded

AUDIENCE = "pantala"
_MIN_RELOAD_INTERVAL = 5.0
"""Seconds between two requests for the keys, so that clients with invalid tokens cannot cause many of them."""
_LEEWAY = 10
"""Seconds by which the clocks of the supernode and the API server may differ."""
_MAX_KNOWN = 20_000
"""The most verified tokens that are remembered: a few for each node."""
_MAX_ANSWER = 1024 * 1024
_TIMEOUT = aiohttp.ClientTimeout(total=10)


class TokenRejectedError(Exception):
    """The token does not prove an identity."""


class TokenIdentity(msgspec.Struct, frozen=True):
    """The identity that a token proves."""

    subject: str
    """The ServiceAccount, as ``system:serviceaccount:<namespace>:<name>``."""
    node: str = ""
    """The node of the client's pod; empty if the token is not bound to a node."""
    pod: str = ""
    """The name of the client's pod; empty if the token is not bound to a pod."""


ReadDocument = Callable[[str], Awaitable[Mapping[str, Any]]]
"""Reads a JSON document from a path of the API server. Raises :class:`OSError` or an error of aiohttp."""


class APIServerDocuments:
    """Reads JSON documents from the API server with a ServiceAccount's token."""

    def __init__(self, session: aiohttp.ClientSession, api_server: str, *, ca: Path | None, token: Path | None) -> None:
        self._session = session
        self._api_server = api_server.rstrip("/")
        self._tls = ssl.create_default_context(cafile=ca)
        self._token = token

    async def read(self, path: str) -> Mapping[str, Any]:
        """Read the document at ``path``."""
        headers = bearer(self._token)
        async with self._session.get(
            self._api_server + path, ssl=self._tls, headers=headers, timeout=_TIMEOUT
        ) as answer:
            answer.raise_for_status()
            return msgspec.json.decode(await read_bounded(answer, _MAX_ANSWER), type=dict[str, Any])


class ClusterKeys:
    """Verifies tokens with the public keys from the API server's ``/openid/v1/jwks``, without a request for each.

    Any ServiceAccount may read the keys (``system:service-account-issuer-discovery``), so no role is needed. A token
    stays valid until it expires, even after its pod is deleted. The tokens that the chart mounts are valid for 600 s.

    A verified token is remembered by its hash until it expires, or until the keys are read again.
    """

    def __init__(self, read: ReadDocument) -> None:
        """``read`` reads a document of the API server."""
        self._read = read
        self._keys: dict[str, jwt.PyJWK] = {}
        self._issuer = ""
        self._loaded_at = float("-inf")
        self._loading = asyncio.Lock()
        self._known: LRUCache[bytes, tuple[TokenIdentity, float]] = LRUCache(_MAX_KNOWN)

    def known(self, token: str) -> TokenIdentity | None:
        """The identity in a token that was verified before and is still valid. ``None``: :meth:`verify` must decide."""
        identity, until = self._known.get(_hash(token), (None, 0.0))
        return identity if time.time() < until else None

    async def verify(self, token: str) -> TokenIdentity:
        """Check the signature, audience, issuer and times of a token. Raises :class:`TokenRejectedError`."""
        try:
            key = await self._key(str(jwt.get_unverified_header(token).get("kid", "")))
            claims: Mapping[str, Any] = jwt.decode(
                token,
                key,
                algorithms=["RS256", "ES256"],
                audience=AUDIENCE,
                issuer=self._issuer,
                leeway=_LEEWAY,
                options={"require": ["exp", "iat", "iss", "aud", "sub"]},
            )
        except jwt.PyJWTError as error:
            raise TokenRejectedError(f"the token is not valid: {error}") from error
        bound = claims.get("kubernetes.io", {})
        node, pod = (str(bound.get(kind, {}).get("name", "")) for kind in ("node", "pod"))
        identity = TokenIdentity(str(claims["sub"]), node, pod)
        self._known[_hash(token)] = identity, float(claims["exp"]) + _LEEWAY
        return identity

    async def _load(self) -> None:
        try:
            configuration = await self._read("/.well-known/openid-configuration")
            keys = await self._read("/openid/v1/jwks")
            self._issuer = str(configuration["issuer"])
            self._keys = {str(key["kid"]): jwt.PyJWK(key) for key in keys["keys"]}
            self._known.clear()
        except (aiohttp.ClientError, OSError, TimeoutError, KeyError, msgspec.DecodeError, jwt.PyJWTError) as error:
            raise TokenRejectedError(
                f"cannot read the cluster's keys: {error}. Check the API server and the mounted token"
            ) from error

    async def _key(self, kid: str) -> jwt.PyJWK:
        if kid not in self._keys:
            async with self._loading:
                now = time.monotonic()
                if kid not in self._keys and now - self._loaded_at > _MIN_RELOAD_INTERVAL:
                    self._loaded_at = now
                    await self._load()
        try:
            return self._keys[kid]
        except KeyError:
            raise TokenRejectedError("the token is signed with a key that the cluster does not publish") from None


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="surrogateescape")).digest()
