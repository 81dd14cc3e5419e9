"""A proxy in front of the API server that drops, repeats and ages events of watches, as Sieve does."""

import json
import random
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from aiohttp import web

from testbed.apiserver import ControlPlane
from testbed.process import free_ports

_HOP = {"host", "connection", "transfer-encoding", "content-length", "accept-encoding"}


class APIProxy:
    """Speaks plain HTTP with the operator, and passes its requests on as the administrator."""

    def __init__(self, control_plane: ControlPlane, seed: int = 1) -> None:
        self.drop = self.repeat = self.age = 0.0
        """The share of the events of watches that are dropped, repeated, or followed by a former state."""
        self.expire = 0.0
        """The share of the events after which the watch ends with ``410 Gone``."""
        self.injected = 0
        self.port = free_ports(1)[0]
        self._control_plane = control_plane
        self._chance = random.Random(seed)
        self._former: dict[str, bytes] = {}
        self._session: aiohttp.ClientSession

    def kubeconfig(self, path: Path) -> Path:
        """Write the kubeconfig of a client that uses the proxy."""
        content = {
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{self.port}"}}],
            "users": [{"name": "u", "user": {}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        }  # fmt: skip
        path.write_text(yaml.safe_dump(content))
        return path

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        pki = self._control_plane.directory / "pki"
        context = ssl.create_default_context(cafile=str(self._control_plane.certificate_authority))
        context.load_cert_chain(pki / "admin.crt", pki / "admin.key")
        connector = aiohttp.TCPConnector(ssl=context, limit=0)
        async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as self._session:
            app = web.Application(client_max_size=1 << 26)
            app.router.add_route("*", "/{path:.*}", self._pass)
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", self.port).start()
            try:
                yield
            finally:
                await runner.cleanup()

    async def _pass(self, request: web.Request) -> web.StreamResponse:
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP}
        async with self._session.request(
            request.method,
            self._control_plane.server + request.raw_path,
            data=await request.read() or None,
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=None),
        ) as answer:
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in _HOP}
            response = web.StreamResponse(status=answer.status, headers=kept)
            await response.prepare(request)
            if "watch" in request.query:
                await self._watch(answer, response)
            else:
                async for chunk in answer.content.iter_any():
                    await response.write(chunk)
            await response.write_eof()
            return response

    async def _watch(self, answer: aiohttp.ClientResponse, response: web.StreamResponse) -> None:
        async for line in answer.content:
            event: dict[str, Any] = json.loads(line)
            if event["type"] not in ("ADDED", "MODIFIED", "DELETED"):
                await response.write(line)
                continue
            chance, uid = self._chance.random(), event["object"]["metadata"]["uid"]
            former, self._former[uid] = self._former.get(uid, line), line
            if chance < self.drop:
                self.injected += 1
                continue
            await response.write(line)
            if chance < self.drop + self.repeat:
                self.injected += 1
                await response.write(line)
            elif chance < self.drop + self.repeat + self.age:
                self.injected += 1
                await response.write(former)
            elif chance < self.drop + self.repeat + self.age + self.expire:
                self.injected += 1
                status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Expired", "code": 410}
                await response.write(json.dumps({"type": "ERROR", "object": status}).encode() + b"\n")
                return
