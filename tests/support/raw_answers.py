"""Raw answers of a server, and what the outbound client makes of them."""

import asyncio

from pantala_supernode.outbound.client import OutboundClient
from pantala_supernode.outbound.request import Head, Limits, Request, Timeouts
from tests.support.outbound import local_egress, raw_server

HEAD_LIMIT = 64 * 1024
OK = "HTTP/1.1 200 OK\r\n"
TWO = "Content-Length: 2\r\n\r\nok"


class Kept:
    """A sink that keeps the answer."""

    def __init__(self) -> None:
        self.head: Head | None = None
        self.data = b""

    def begin(self, head: Head) -> None:
        self.head = head

    def take(self, data: bytes) -> None:
        self.data += data


async def answered(
    text: str | bytes,
    *,
    method: str = "GET",
    first: float = 0.0,
    timeouts: Timeouts | None = None,
    kept: bool = False,
    path: str = "",
) -> tuple[Head, bytes, bytes]:
    """The head and the body of one raw answer, and the request. ``first``: seconds before the answer.

    ``kept``: the server leaves the connection open.
    """
    asked = b""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked = await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(first)
        writer.write(text.encode("latin-1") if isinstance(text, str) else text)
        if kept:
            await reader.read()

    async with (
        raw_server(serve) as url,
        OutboundClient(egress=local_egress(), limits=Limits(head=HEAD_LIMIT), timeouts=timeouts) as client,
    ):
        sink = Kept()
        request = Request(url + path, {"X-Name": "\xe9t\xe9"}, method=method)  # type: ignore[arg-type]
        return await client.send(request, sink), sink.data, asked
