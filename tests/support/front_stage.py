"""A front with three hot routes, and raw requests to it."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from pantala_process.settings import ListenAddress
from pantala_process.tls.contexts import TLSContexts
from pantala_supernode.errors import NotFoundError
from pantala_supernode.http.access import Access, AccessRefusedError, Guard
from pantala_supernode.http.clients import ClientLimits
from pantala_supernode.http.front import Front
from pantala_supernode.http.operations import HotRequest, HotRoute
from pantala_supernode.http.site import site
from pantala_supernode.metrics import Metrics
from testbed.process import free_ports

HOST = "127.0.0.1"
LARGE = "x" * 12_000_000
"""An answer that the buffers of the kernel cannot hold."""


class Served:
    """A front with three hot routes, before an application that answers everything else."""

    def __init__(self) -> None:
        self.cold: list[tuple[str, bytes]] = []
        self.hot: list[HotRequest] = []
        self.held: list[asyncio.Future[object]] = []
        self.limits = ClientLimits()
        guard = Guard(None, operator="", peer="", supernode="")
        guard_of_closed = guard.authorize_at_once

        def refuse_closed(access: Access, authorization: str, path: str, client: str | None = None) -> Any:
            if path == "/closed":
                raise AccessRefusedError(401, "Unauthorized", "no token")
            return guard_of_closed(access, authorization, path, client)

        guard.authorize_at_once = refuse_closed  # type: ignore[method-assign]
        self.front = Front(
            (
                HotRoute("POST", "/echo", self.echo, Access.OPEN, most_body=100_000),
                HotRoute("POST", "/closed", self.echo, Access.OPEN, most_body=100_000),
                HotRoute("GET", "/query", self.query, Access.OPEN),
                HotRoute("GET", "/hold", self.hold, Access.OPEN),
                HotRoute("GET", "/large", lambda _: {"text": LARGE}, Access.OPEN),
            ),
            guard,
            Metrics(),
            self.limits,
        )
        self.app = web.Application()
        self.app.router.add_route("GET", "/cold/large", self.large)
        self.app.router.add_route("*", "/{path:.*}", self.answer)
        (self.port,) = free_ports(1)

    def echo(self, request: HotRequest) -> object:
        self.hot.append(request)
        if request.body == b"bug":
            raise ZeroDivisionError
        if request.body == b"missing":
            raise NotFoundError("there is none")
        return {"hot": request.body.decode()}

    def query(self, request: HotRequest) -> object:
        self.hot.append(request)
        return dict(request.query)

    def hold(self, request: HotRequest) -> object:
        self.hot.append(request)
        self.held.append(asyncio.get_running_loop().create_future())
        return self.held[-1]

    async def large(self, request: web.Request) -> web.StreamResponse:
        return await self.limits.send(request, {"text": LARGE})

    async def answer(self, request: web.Request) -> web.Response:
        self.cold.append((request.path, await request.read()))
        return web.json_response({"cold": request.path})


@asynccontextmanager
async def serve(tls: TLSContexts | None = None) -> AsyncIterator[Served]:
    served = Served()
    async with site(served.app, served.front, ListenAddress(HOST, served.port), share=0.1, tls=tls):
        yield served


async def talk(served: Served, *parts: bytes, answers: int = 1, pause: float = 0.0) -> list[tuple[int, Any]]:
    """The status and the body of the first answers to these bytes."""
    reader, writer = await asyncio.open_connection(HOST, served.port)
    try:
        for part in parts:
            writer.write(part)
            await asyncio.sleep(pause)
        return [await read(reader) for _ in range(answers)]
    finally:
        writer.close()


async def read(reader: asyncio.StreamReader) -> tuple[int, Any]:
    async with asyncio.timeout(5):
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: (\d+)\r\n", head)
        assert length is not None
        body = await reader.readexactly(int(length[1]))
    return int(head[9:12]), json.loads(body) if body[:1] == b"{" else body


def post(body: bytes, path: str = "/echo", *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: s", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def get(target: str) -> bytes:
    return f"GET {target} HTTP/1.1\r\nHost: s\r\n\r\n".encode()
