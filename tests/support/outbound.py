"""An outbound client with a reader of origins, and servers that send raw bytes."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from pantala_protocol.rules.sources import Network
from pantala_protocol.statement import SourceRule
from pantala_supernode.origin.http import HTTPReader, SourceThrottle
from pantala_supernode.outbound.client import OutboundClient
from pantala_supernode.outbound.egress import EgressPolicy
from pantala_supernode.outbound.policies import SourcePolicies

LOOPBACK = SourceRule("tests", networks=("127.0.0.0/8", "::1/128"))
"""Allows the servers of tests."""
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def local_egress(*denied: Network) -> EgressPolicy:
    """Allows public addresses and loopback, but not the networks ``denied``."""
    return EgressPolicy(denied, policies=SourcePolicies([LOOPBACK]))


@asynccontextmanager
async def http_reader(throttle: SourceThrottle | None = None, **options: Any) -> AsyncIterator[HTTPReader]:
    """A reader whose client has these ``options``. By default it may read loopback."""
    async with OutboundClient(**{"egress": local_egress()} | options) as client:
        yield HTTPReader(client, throttle=throttle)


@asynccontextmanager
async def raw_server(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]], tls: ssl.SSLContext | None = None
) -> AsyncIterator[str]:
    """The URL of a server that calls ``serve`` for each connection. At the end, all connections are closed."""
    running: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            running.add(task)
        try:
            await serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield f"{'http' if tls is None else 'https'}://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
