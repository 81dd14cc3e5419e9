"""A registry, its token server and its object storage. They follow a script and log their requests."""

import asyncio
import base64
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from pantala_supernode.outbound.client import OutboundClient
from pantala_supernode.outbound.egress import EgressPolicy
from pantala_supernode.outbound.proxy import Proxy
from pantala_supernode.outbound.request import Timeouts
from pantala_supernode.registry.clouds.accounts import AccountChoice, CloudAccounts
from pantala_supernode.registry.endpoint import RegistryEndpoints
from pantala_supernode.registry.manifest import OCI_INDEX, OCI_MANIFEST
from pantala_supernode.registry.service import RegistryService, open_service
from tests.support.outbound import local_egress
from tests.support.pieces import sha256 as sha256
from tests.support.web_server import web_server

PASSWORD = "s3cret-password"
LAYER = bytes(range(256)) * 4000
Handler = Callable[[web.Request], Awaitable[web.StreamResponse | None]]


@dataclass
class Asked:
    method: str
    path: str
    authorization: str
    form: dict[str, str] = field(default_factory=dict)
    query: list[tuple[str, str]] = field(default_factory=list)


class Server:
    """An HTTP server on its own port."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.asked: list[Asked] = []
        self.host = ""
        self.url = ""
        self._tls = tls
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Any:
        server = web_server(web.route("*", "/{path:.*}", self._serve), tls=self._tls)
        port = await self._stack.enter_async_context(server)
        self.host = f"127.0.0.1:{port}"
        self.url = f"{'https' if self._tls else 'http'}://{self.host}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        form = {key: str(value) for key, value in (await request.post()).items()} if request.method == "POST" else {}
        header = request.headers.get("Authorization", "")
        self.asked.append(Asked(request.method, request.path, header, form, list(request.query.items())))
        return await self.answer(request)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        raise NotImplementedError


class TokenServer(Server):
    """Issues tokens. The fake registry accepts those that are in ``valid``."""

    def __init__(self) -> None:
        super().__init__()
        self.accounts: dict[str, str] = {}
        self.identity_token = ""
        self.anonymous = True
        self.expires_in = 300
        self.valid: set[str] = set()
        self.fault: Handler | None = None

    async def answer(self, request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(0.01)
        if self.fault is not None and (broken := await self.fault(request)) is not None:
            return broken
        if not self._knows(self.asked[-1]):
            return web.json_response({"details": "who?"}, status=401)
        token = f"token-{len(self.asked)}"
        self.valid.add(token)
        return web.json_response({"token": token, "expires_in": self.expires_in})

    def _knows(self, asked: Asked) -> bool:
        if asked.method == "POST":
            return asked.form.get("refresh_token") == self.identity_token != ""
        return is_account(asked.authorization, self.accounts) if asked.authorization else self.anonymous


class Storage(Server):
    """Object storage for blobs, to which the registry redirects. It needs no authentication."""

    def __init__(self) -> None:
        super().__init__()
        self.blobs: dict[str, bytes] = {}

    async def answer(self, request: web.Request) -> web.StreamResponse:
        return ranged(request, self.blobs[request.path.rpartition("/")[2]])


class FakeRegistry(Server):
    """A registry that requires ``tokens`` or ``accounts``. ``faults`` maps parts of paths to faulty answers."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(tls)
        self.manifests: dict[str, tuple[str, bytes]] = {}
        self.blobs: dict[str, bytes] = {}
        self.accounts: dict[str, str] = {}
        self.tokens: TokenServer | None = None
        self.storage: Storage | None = None
        self.faults: dict[str, Handler] = {}
        self.challenge = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if (refusal := self._refusal(request)) is not None:
            return refusal
        for part, fault in self.faults.items():
            if part in request.path and (broken := await fault(request)) is not None:
                return broken
        _, kind, target = request.path.rsplit("/", 2)
        if kind == "manifests" and target in self.manifests:
            media_type, body = self.manifests[target]
            headers = {"Content-Type": media_type, "Docker-Content-Digest": sha256(body)}
            return web.Response(body=body, headers=headers)
        if kind == "blobs" and target in self.blobs:
            if self.storage is not None:
                self.storage.blobs[target] = self.blobs[target]
                return web.Response(status=307, headers={"Location": f"{self.storage.url}/signed/{target}?sig=x"})
            return ranged(request, self.blobs[target])
        return web.json_response({"errors": [{"code": "MANIFEST_UNKNOWN"}]}, status=404)

    def push(self, tag: str, platforms: Sequence[str] = ("linux/amd64",), layer: bytes = LAYER) -> str:
        """Add an image with an index. Return its digest."""
        children = []
        for platform in platforms:
            os, architecture = platform.split("/")
            config = json.dumps({"os": os, "architecture": architecture}).encode()
            blobs = {"config": self._blob(config), "layers": [self._blob(layer)]}
            body = json.dumps({"schemaVersion": 2, "mediaType": OCI_MANIFEST, **blobs}).encode()
            self.manifests[sha256(body)] = (OCI_MANIFEST, body)
            described = {"mediaType": OCI_MANIFEST, "digest": sha256(body), "size": len(body)}
            children.append({**described, "platform": {"os": os, "architecture": architecture}})
        index = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": children}).encode()
        self.manifests[tag] = self.manifests[sha256(index)] = (OCI_INDEX, index)
        return sha256(index)

    def _blob(self, data: bytes) -> dict[str, object]:
        self.blobs[sha256(data)] = data
        return {"mediaType": "application/octet-stream", "digest": sha256(data), "size": len(data)}

    def _refusal(self, request: web.Request) -> web.Response | None:
        header = request.headers.get("Authorization", "")
        if self.tokens is not None:
            if header.removeprefix("Bearer ") in self.tokens.valid:
                return None
            name = request.path.removeprefix("/v2/").rsplit("/", 2)[0]
            challenge = f'Bearer realm="{self.tokens.url}/token",service="fake",scope="repository:{name}:pull"'
        elif not self.accounts or is_account(header, self.accounts):
            return None
        else:
            challenge = 'Basic realm="fake"'
        return web.Response(status=401, headers={"WWW-Authenticate": self.challenge or challenge})


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def is_account(authorization: str, accounts: dict[str, str]) -> bool:
    return authorization in {basic(user, password) for user, password in accounts.items()}


def ranged(request: web.Request, data: bytes) -> web.Response:
    """Answer with a blob, or with its requested range."""
    span = request.http_range
    if span.start is None:
        return web.Response(body=data, headers={"ETag": f'"{sha256(data)}"'})
    stop = len(data) if span.stop is None else span.stop
    headers = {"ETag": f'"{sha256(data)}"', "Content-Range": f"bytes {span.start}-{stop - 1}/{len(data)}"}
    return web.Response(status=206, body=data[span.start : stop], headers=headers)


def no_cloud() -> AccountChoice:
    """The choice of a supernode without an identity in a cloud."""
    return AccountChoice(RegistryEndpoints(), CloudAccounts((), lambda: 0.0))


class Clock:
    """A clock whose time the test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@contextlib.asynccontextmanager
async def service(
    endpoints: RegistryEndpoints | None = None,
    *,
    clock: Clock | None = None,
    egress: EgressPolicy | None = None,
    proxy: Proxy | None = None,
    total: float = 10.0,
) -> AsyncIterator[RegistryService]:
    """Run the supernode's registry service against a fake registry."""
    async with (
        OutboundClient(egress=egress or local_egress(), proxy=proxy, timeouts=Timeouts(connect=2.0)) as outbound,
        open_service(endpoints or RegistryEndpoints(), outbound, total=total, clock=clock or Clock()) as opened,
    ):
        yield opened
