"""The identity of a client, from its projected ServiceAccount token. The cluster's public keys verify the token."""

import asyncio
import contextlib
import hashlib
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import msgspec
import structlog
from cachetools import LRUCache

from pantala_process.http import TokenFileError, bearer, connection_problem, read_bounded
from pantala_protocol.statement import MAX_CLOCK_SKEW

_log = structlog.get_logger(__name__)

AUDIENCE = "pantala"
_RELOAD_INTERVAL = 3600.0
"""Seconds between two requests for the keys if a token's key is known, so that a withdrawn key is soon rejected."""
_MIN_RELOAD_INTERVAL = 5.0
"""Seconds between two requests for the keys, so that clients with invalid tokens cannot cause many requests."""
_LEEWAY = 60
"""Seconds by which the clocks of this process and the API server may differ."""
_SLOW = 2.0
"""Seconds. The time in an answer that takes longer is ignored, because it is too inexact."""
_MAX_KNOWN = 20_000
"""The most verified tokens in the cache: a few for each node."""
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


class ServerClock:
    """The time of the API server, which issues the tokens. Before its first answer, the machine's time.

    Between answers, the monotonic clock counts on. So no token is refused because this machine's clock is wrong or
    jumps. That clock stands still while the machine sleeps. A token from the future shows this to :class:`ClusterKeys`.
    The API server's certificate is verified. It also signs the tokens, so a false time gives it no more power.
    """

    def __init__(self, wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._ahead: float | None = None

    def now(self) -> float:
        """Seconds since the epoch."""
        return self._wall() if self._ahead is None else self._monotonic() + self._ahead

    @property
    def skew(self) -> float | None:
        """Seconds by which the machine's clock is ahead of the API server's. ``None``: not known."""
        return None if self._ahead is None else self._wall() - self.now()

    def learn(self, date: str, took: float = 0.0) -> None:
        """Use the ``Date`` header of an answer that has just arrived, ``took`` seconds after its request.

        A slow answer and a text that is not a valid date change nothing.
        """
        if took > _SLOW:
            return
        try:
            seconds = parsedate_to_datetime(date).timestamp()
        except (TypeError, ValueError):
            return
        former, now = self.skew, self._monotonic()
        self._ahead = seconds + 0.5 + took / 2 - now  # the header has whole seconds
        if abs(former or 0.0) <= MAX_CLOCK_SKEW < abs(self.skew or 0.0):
            _log.warning(
                "the clock of this machine differs from that of the API server; synchronise it",
                ahead=round(self.skew or 0),
            )


def api_server_documents(
    session: aiohttp.ClientSession, api_server: str, clock: ServerClock, *, ca: Path | None, token: Path | None
) -> ReadDocument:
    """The function that reads documents from the API server with the token in a file. Its answers set ``clock``."""
    try:
        tls = ssl.create_default_context(cafile=ca)
    except OSError as error:
        what = f"the API server's authority in {ca} cannot be read: {error.strerror}"
        raise OSError(f"{what}. Give a readable file with certificates in PEM as --api-ca") from error

    async def read(path: str) -> Mapping[str, Any]:
        url, headers, began = api_server.rstrip("/") + path, bearer(token), time.monotonic()
        async with session.get(url, ssl=tls, headers=headers, timeout=_TIMEOUT) as answer:
            clock.learn(answer.headers.get("Date", ""), time.monotonic() - began)
            answer.raise_for_status()
            return msgspec.json.decode(await read_bounded(answer, _MAX_ANSWER), type=dict[str, Any])

    return read


class ClusterKeys:
    """Verifies tokens with the public keys from the API server's ``/openid/v1/jwks``, without a request for each token.

    Any ServiceAccount may read the keys (``system:service-account-issuer-discovery``), so no role is needed. A token
    stays valid until it expires, even after its pod is deleted. The tokens that the chart mounts are valid for 600 s.

    A verified token is cached by its hash until it expires, or until the keys are read again. This happens every hour.
    The former keys stay in force while the new keys are read, and if that fails.
    """

    def __init__(self, read: ReadDocument, clock: ServerClock) -> None:
        """``read`` reads a document of the API server, and also sets ``clock``."""
        self._read = read
        self._clock = clock
        self._again: asyncio.Task[None] | None = None
        self._keys: dict[str, jwt.PyJWK] = {}
        self._issuer = ""
        self._problem = ""
        self._loaded_at = float("-inf")
        self._loading = asyncio.Lock()
        self._known: LRUCache[bytes, tuple[TokenIdentity, float]] = LRUCache(_MAX_KNOWN)

    def known(self, token: str) -> TokenIdentity | None:
        """The identity in a token that was verified before and is still valid. ``None``: :meth:`verify` must decide."""
        identity, until = self._known.get(_hash(token), (None, 0.0))
        return identity if self._clock.now() < until else None

    async def verify(self, token: str) -> TokenIdentity:
        """Check the signature, audience, issuer and times of a token. Raises :class:`TokenRejectedError`."""
        key = await self._key(_key_id(token))
        try:
            claims: Mapping[str, Any] = jwt.decode(
                token,
                key,
                algorithms=["RS256", "ES256", "ES384", "ES512"],  # those with which API servers sign
                audience=AUDIENCE,
                issuer=self._issuer,
                options={
                    "require": ["exp", "iat", "iss", "aud", "sub"],
                    "verify_exp": False,
                    "verify_iat": False,
                    "verify_nbf": False,
                },
            )
            await self._check_times(claims)
        except (jwt.PyJWTError, ValueError, RecursionError) as error:
            raise TokenRejectedError(f"the token is not valid: {error}") from error
        bound = claims.get("kubernetes.io", {})
        node, pod = (str(bound.get(kind, {}).get("name", "")) for kind in ("node", "pod"))
        identity = TokenIdentity(str(claims["sub"]), node, pod)
        self._known[_hash(token)] = identity, float(claims["exp"]) + _LEEWAY
        return identity

    async def _check_times(self, claims: Mapping[str, Any]) -> None:
        try:
            end, begin = float(claims["exp"]), max(float(claims["iat"]), float(claims.get("nbf", 0)))
        except (TypeError, ValueError) as error:
            raise jwt.InvalidTokenError("a time in the token is not a number") from error
        if self._clock.now() < begin - _LEEWAY:
            await self._load_again(self._load_soon())  # while the machine sleeps, the monotonic clock stands still
        now = self._clock.now()
        if not now <= end + _LEEWAY:
            raise jwt.ExpiredSignatureError("the token has expired")
        if not begin - _LEEWAY <= now:
            raise jwt.ImmatureSignatureError("the token is not valid yet")

    async def _load(self) -> None:
        try:
            configuration = await self._read("/.well-known/openid-configuration")
            keys = await self._read("/openid/v1/jwks")
            self._issuer = str(configuration["issuer"])
            self._keys = {str(key.key_id): key for key in jwt.PyJWKSet(keys["keys"]).keys}  # without unknown kinds
            self._known.clear()
        except (aiohttp.ClientError, OSError, TimeoutError, KeyError, msgspec.DecodeError, jwt.PyJWTError) as error:
            away = isinstance(error, aiohttp.ClientConnectionError | TimeoutError)
            what = connection_problem(error) if away else str(error)
            advice = "" if isinstance(error, TokenFileError) else ". Check the API server and the token"
            text = f"cannot read the cluster's keys: {what}{advice}"
            if text != self._problem:
                _log.warning("new tokens are refused; the keys that were read before stay in use", error=text)
            self._problem = text
            raise TokenRejectedError(text) from error
        self._problem = ""

    async def _load_soon(self, kid: str | None = None) -> None:
        """Read the keys again, and so learn the API server's time, unless that was done a moment ago.

        With ``kid``, read them only if this key is still missing. Raises :class:`TokenRejectedError`.
        """
        async with self._loading:
            now = time.monotonic()
            if kid not in self._keys and now - self._loaded_at > _MIN_RELOAD_INTERVAL:
                self._loaded_at = now
                await self._load()

    async def _load_again(self, load: Awaitable[None]) -> None:
        with contextlib.suppress(TokenRejectedError):  # logged
            await load

    async def _key(self, kid: str) -> jwt.PyJWK:
        now = time.monotonic()
        if kid in self._keys and now - self._loaded_at > _RELOAD_INTERVAL:
            self._loaded_at = now
            self._again = asyncio.create_task(self._load_again(self._load()))
        if kid not in self._keys:
            await self._load_soon(kid)
        try:
            return self._keys[kid]
        except KeyError:
            raise TokenRejectedError("the token is signed with a key that the cluster does not publish") from None


def _key_id(token: str) -> str:
    """The ID of the key that signed a token. Raises :class:`TokenRejectedError`."""
    if not token.isascii():
        raise TokenRejectedError("the token is not valid: it is not ASCII text")
    try:
        return str(jwt.get_unverified_header(token).get("kid", ""))
    except (jwt.PyJWTError, ValueError, RecursionError) as error:
        raise TokenRejectedError(f"the token is not valid: {error}") from error


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="surrogatepass")).digest()
