"""An API server that issues tokens of ServiceAccounts, and publishes the keys that verify them."""

import base64
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa

ISSUER = "https://issuer.example"


@asynccontextmanager
async def listening(app: web.Application) -> AsyncIterator[str]:
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


class TokenIssuer:
    """An API server that publishes the keys of its tokens."""

    def __init__(self) -> None:
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.loads = 0

    def jwks(self) -> dict[str, Any]:
        numbers = self.key.public_key().public_numbers()

        def text(value: int) -> str:
            return base64.urlsafe_b64encode(value.to_bytes((value.bit_length() + 7) // 8, "big")).rstrip(b"=").decode()

        return {
            "keys": [
                {"kty": "RSA", "alg": "RS256", "use": "sig", "kid": "k1", "n": text(numbers.n), "e": text(numbers.e)}
            ]
        }

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """The URL of the API server."""
        app = web.Application()
        app.router.add_get("/.well-known/openid-configuration", self.configuration)
        app.router.add_get("/openid/v1/jwks", self.keys)
        async with listening(app) as url:
            yield url

    def token(
        self,
        subject: str,
        node: str = "node1",
        *,
        pod: str = "pod-1",
        kid: str = "k1",
        forged: bool = False,
        **changes: Any,
    ) -> str:
        now = int(time.time())
        claims = {"iss": ISSUER, "aud": ["pantala"], "sub": subject, "iat": now, "exp": now + 600}
        claims |= {"kubernetes.io": {"node": {"name": node}, "pod": {"name": pod}}} | changes
        return jwt.encode(claims, self.stranger if forged else self.key, algorithm="RS256", headers={"kid": kid})

    async def configuration(self, _request: web.Request) -> web.Response:
        return web.json_response({"issuer": ISSUER, "jwks_uri": "https://elsewhere.example/keys"})

    async def keys(self, _request: web.Request) -> web.Response:
        self.loads += 1
        return web.json_response(self.jwks())
