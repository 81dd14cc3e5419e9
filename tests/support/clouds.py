"""The token servers and registries of three clouds. They check each step as the vendors document it."""

import base64
import hashlib
import hmac
import secrets
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import jwt
from aiohttp import web

from pantala_protocol.image import ImageRepository
from tests.support.fake_registry import Clock, FakeRegistry, Server

NAMES = (
    "*.dkr.ecr.eu-west-1.amazonaws.com", "*.ecr.eu-west-1.amazonaws.com", "*.eu-west-1.amazonaws.com", "*.pkg.dev",
    "*.googleapis.com", "*.azurecr.io", "login.microsoftonline.com",
)  # fmt: skip
ECR = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"
PKG = "europe-docker.pkg.dev"
ACR = "contoso.azurecr.io"
ACCOUNT = "system:serviceaccount:pantala:pantala-supernode"
ROLE = "arn:aws:iam::123456789012:role/pantala"
POOL = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/pool/providers/cluster"
TENANT, CLIENT = "11111111-tenant", "22222222-client"
_KEY = "the key of the cluster's issuer, 32 bytes"
_HOUR = 3600.0


@dataclass
class World:
    """What all servers of a test share: the time, the cluster's tokens, and what the servers issued."""

    folder: Path
    clock: Clock = field(default_factory=Clock)
    epoch: float = field(default_factory=time.time)
    issued: dict[str, float] = field(default_factory=dict)
    """Tokens and passwords, with the end of each."""
    secrets: dict[str, tuple[str, str]] = field(default_factory=dict)
    """By access key: the secret key and the session token."""
    exchanges: list[str] = field(default_factory=list)
    """The steps that succeeded, in order."""
    faults: dict[str, web.Response] = field(default_factory=dict)
    """By step: the answer instead."""

    def wall(self) -> float:
        return self.epoch + self.clock.now

    def write_token(self, audience: str, *, subject: str = ACCOUNT, seconds: float = _HOUR) -> Path:
        """The kubelet's token file of a pod."""
        claims = {"aud": audience, "sub": subject, "exp": int(self.wall() + seconds)}
        file = self.folder / "token"
        file.write_text(jwt.encode(claims, _KEY, "HS256") + "\n")
        return file

    def issue(self, seconds: float, name: str = "token") -> str:
        token = f"{name}-{secrets.token_hex(8)}"
        self.issued[token] = self.wall() + seconds
        return token

    def is_valid(self, token: str) -> bool:
        return self.issued.get(token, 0.0) > self.wall()

    def is_from_cluster(self, token: str, audience: str) -> bool:
        try:
            options = {"verify_exp": False, "require": ["exp", "sub", "aud"]}
            claims = jwt.decode(token, _KEY, ["HS256"], audience=audience, options=options)  # type: ignore[arg-type]
        except jwt.InvalidTokenError:
            return False
        return bool(claims["sub"] == ACCOUNT and claims["exp"] > self.wall())


class TokenServers(Server):
    """All token servers, told apart by the path and the body of a request."""

    def __init__(self, world: World, tls: ssl.SSLContext | None) -> None:
        super().__init__(tls)
        self.world = world

    async def answer(self, request: web.Request) -> web.Response:
        for part, (step, handler) in self._steps().items():
            if part in f"{request.host}{request.path}":
                if (fault := self.world.faults.get(step)) is not None:
                    return web.Response(status=fault.status, body=fault.body)
                answer: web.Response = await handler(request)
                if answer.status == 200:
                    self.world.exchanges.append(step)
                return answer
        return web.Response(status=404)

    def _steps(self) -> dict[str, tuple[str, Callable[[web.Request], Any]]]:
        return {
            "/v1/credentials": ("agent", self._agent),
            "api.ecr.": ("ecr", self._ecr),
            "sts.eu-west-1.amazonaws.com": ("sts", self._sts),
            "/v1/token": ("google", self._google),
            ":generateAccessToken": ("iam", self._iam),
            f"/{TENANT}/oauth2/v2.0/token": ("entra", self._entra),
        }

    async def _sts(self, request: web.Request) -> web.Response:
        form = dict(await request.post())
        fixed = {"Action": "AssumeRoleWithWebIdentity", "Version": "2011-06-15", "RoleArn": ROLE}
        right = request.method == "POST" and form.items() >= fixed.items() and form.get("RoleSessionName")
        if not right or not self.world.is_from_cluster(str(form.get("WebIdentityToken")), "sts.amazonaws.com"):
            body = "<ErrorResponse><Error><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>"
            return web.Response(status=403, text=body)
        key, secret, session = self._keys(float(str(form["DurationSeconds"])))
        return web.Response(text=(
            '<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">'
            "<AssumeRoleWithWebIdentityResult><Credentials>"
            f"<AccessKeyId>{key}</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey>"
            f"<SessionToken>{session}</SessionToken><Expiration>2030-01-01T00:00:00Z</Expiration>"
            "</Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
        ))  # fmt: skip

    async def _agent(self, request: web.Request) -> web.Response:
        token = request.headers.get("Authorization", "")
        if request.method != "GET" or not self.world.is_from_cluster(token, "pods.eks.amazonaws.com"):
            return web.Response(status=400, text="no")
        key, secret, session = self._keys(6 * _HOUR)
        return web.json_response({"AccessKeyId": key, "SecretAccessKey": secret, "Token": session, "AccountId": "1"})

    def _keys(self, seconds: float) -> tuple[str, str, str]:
        key, secret, session = self.world.issue(seconds, "ASIA"), secrets.token_hex(20), f"//{secrets.token_hex(40)}=="
        self.world.secrets[key] = (secret, session)
        return key, secret, session

    async def _ecr(self, request: web.Request) -> web.Response:
        if problem := self._unsigned(request, await request.read()):
            return web.json_response({"__type": problem, "message": "no"}, status=400)
        password = self.world.issue(12 * _HOUR, "ecr")
        token = base64.b64encode(f"AWS:{password}".encode()).decode()
        given = {
            "authorizationToken": token,
            "expiresAt": self.world.issued[password],
            "proxyEndpoint": f"https://{ECR}",
        }
        return web.json_response({"authorizationData": [given]}, content_type="application/x-amz-json-1.1")

    def _unsigned(self, request: web.Request, body: bytes) -> str:
        """What is wrong with a signature of version 4. Empty: nothing."""
        head = request.headers
        parts = dict(part.strip().partition("=")[::2] for part in head["Authorization"].partition(" ")[2].split(","))
        key, day, region, service, end = parts["Credential"].split("/")
        names = parts["SignedHeaders"].split(";")
        if not self.world.is_valid(key):
            return "ExpiredTokenException"
        secret, session = self.world.secrets[key]
        if session != head.get("X-Amz-Security-Token"):
            return "UnrecognizedClientException"
        needed = {"host", "x-amz-date", "x-amz-security-token", "x-amz-target", "content-type"}
        if (
            not needed <= set(names)
            or names != sorted(names)
            or not head["Authorization"].startswith("AWS4-HMAC-SHA256 ")
        ):
            return "IncompleteSignatureException"
        at = datetime.strptime(head["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
        if abs(at - self.world.wall()) > 300 or not head["X-Amz-Date"].startswith(day):
            return "InvalidSignatureException"
        if head["X-Amz-Target"] != "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken" or body != b"{}":
            return "InvalidParameterException"
        lines = [
            request.method,
            request.path,
            "",
            *(f"{name}:{head[name].strip()}" for name in names),
            "",
            ";".join(names),
        ]
        canonical = "\n".join([*lines, hashlib.sha256(body).hexdigest()])
        scope = f"{day}/{region}/{service}/{end}"
        text = f"AWS4-HMAC-SHA256\n{head['X-Amz-Date']}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        signing = b"AWS4" + secret.encode()
        for word in (day, "eu-west-1", "ecr", "aws4_request"):
            signing = hmac.new(signing, word.encode(), hashlib.sha256).digest()
        right = hmac.new(signing, text.encode(), hashlib.sha256).hexdigest()
        return "" if hmac.compare_digest(right, parts["Signature"]) else "InvalidSignatureException"

    async def _google(self, request: web.Request) -> web.Response:
        form = dict(parse_qsl((await request.read()).decode()))
        token = form.pop("subject_token", "")
        right = {
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
            "audience": POOL,
            "scope": "https://www.googleapis.com/auth/cloud-platform",
            "requested_token_type": "urn:ietf:params:oauth:token-type:access_token",
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        }
        if form != right or not self.world.is_from_cluster(token, "pool-audience"):
            return web.json_response({"error": "invalid_grant", "error_description": "no"}, status=400)
        token = self.world.issue(_HOUR, "federated")
        return web.json_response({"access_token": token, "token_type": "Bearer", "expires_in": 3600})

    async def _iam(self, request: web.Request) -> web.Response:
        asked = await request.json()
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        right = {"scope": ["https://www.googleapis.com/auth/cloud-platform"], "lifetime": "3600s"}
        if not self.world.is_valid(token) or asked != right or request.content_type != "application/json":
            return web.json_response({"error": {"code": 403, "status": "PERMISSION_DENIED"}}, status=403)
        token = self.world.issue(_HOUR, "ya29")
        until = datetime.fromtimestamp(self.world.issued[token], UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return web.json_response({"accessToken": token, "expireTime": until})

    async def _entra(self, request: web.Request) -> web.Response:
        form = dict(await request.post())
        assertion = str(form.pop("client_assertion", ""))
        right = {
            "client_id": CLIENT,
            "grant_type": "client_credentials",
            "scope": "https://containerregistry.azure.net/.default",
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        }
        if form != right or not self.world.is_from_cluster(assertion, "api://AzureADTokenExchange"):
            return web.json_response({"error": "invalid_client", "error_description": "AADSTS70021"}, status=401)
        token = self.world.issue(_HOUR, "entra")
        return web.json_response({"token_type": "Bearer", "expires_in": 3600, "access_token": token})


class CloudRegistry(FakeRegistry):
    """A registry of a vendor, which accepts what the vendor's token servers issued."""

    def __init__(self, world: World, name: str, tls: ssl.SSLContext | None) -> None:
        super().__init__(tls)
        self.world = world
        self.name = name
        self.is_public = False

    @property
    def repository(self) -> ImageRepository:
        return ImageRepository(self.host, "team/app")

    async def __aenter__(self) -> Any:
        await super().__aenter__()
        self.host = f"{self.name}:{self.host.rpartition(':')[2]}"
        self.url = f"https://{self.host}"
        return self

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/oauth2/exchange" and self.name == ACR:
            return await self._exchange(request)
        if request.path in ("/oauth2/token", "/v2/token"):
            return await self._token(request)
        return await super().answer(request)

    def _refusal(self, request: web.Request) -> web.Response | None:
        header = request.headers.get("Authorization", "")
        if self.is_public:
            return None
        if self.name == ECR:
            user, _, password = _decoded(header).partition(":")
            if user == "AWS" and password.startswith("ecr-") and self.world.is_valid(password):
                return None
            return web.Response(status=401, headers={"WWW-Authenticate": f'Basic realm="{self.url}/",service="ecr"'})
        if self.world.is_valid(header.removeprefix("Bearer registry:")):
            return None
        path = "oauth2/token" if self.name == ACR else "v2/token"
        challenge = self.challenge or f'Bearer realm="{self.url}/{path}",service="{self.name}"'
        return web.Response(status=401, headers={"WWW-Authenticate": challenge})

    async def _exchange(self, request: web.Request) -> web.Response:
        form = dict(await request.post())
        token = str(form.pop("access_token", ""))
        right = {"grant_type": "access_token", "service": ACR, "tenant": TENANT}
        if form != right or not token.startswith("entra-") or not self.world.is_valid(token):
            return web.json_response({"errors": [{"code": "UNAUTHORIZED"}]}, status=401)
        until = self.world.wall() + 3 * _HOUR
        refresh = jwt.encode({"exp": int(until), "jti": secrets.token_hex(8)}, _KEY, "HS256")
        self.world.issued[refresh] = until
        self.world.exchanges.append("acr")
        return web.json_response({"refresh_token": refresh})

    async def _token(self, request: web.Request) -> web.Response:
        if self.name == ACR:
            form = dict(await request.post())
            right = form.get("grant_type") == "refresh_token" and self.world.is_valid(str(form.get("refresh_token")))
        else:
            user, _, token = _decoded(request.headers.get("Authorization", "")).partition(":")
            right = (
                user == "oauth2accesstoken" and token.startswith(("ya29-", "federated-")) and self.world.is_valid(token)
            )
        if not right:
            return web.json_response({"errors": [{"code": "DENIED"}]}, status=401)
        token = self.world.issue(300, "pull")
        return web.json_response({"access_token": f"registry:{token}", "expires_in": 300})


def _decoded(authorization: str) -> str:
    return base64.b64decode(authorization.removeprefix("Basic ")).decode() if authorization.startswith("Basic ") else ""
