"""One answer of an origin, as the supernode's reader gets it."""

import asyncio

from pantala_supernode.origin.body import Layout
from pantala_supernode.origin.source import Answer, Resume
from pantala_supernode.tasks.copy import FileSource
from testbed.origin import Behaviour, Generated, Origin
from tests.support.outbound import http_reader

BODY = Generated(300_000)


async def ask(
    how: Behaviour, resume: Resume | None = None, headers: dict[str, str] | None = None
) -> tuple[Answer, bytes, dict[str, str]]:
    """What one request gets: the answer, the body, and the request's headers as the origin saw them."""
    async with Origin() as origin, http_reader() as source:
        origin.serve("/file", BODY, always=how)
        async with source.open(FileSource(origin.url("/file?x=%2F&y=a+b"), headers or {}), resume) as answer:
            body = b"".join([block async for block in answer.body.blocks(Layout(65536))])
        return answer, body, origin.log[0].headers


async def garbage(text: bytes, headers: dict[str, str] | None = None) -> Answer:
    """The answer of a server that sends ``text`` to a request with ``headers``."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(text)
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/file"
    async with server, http_reader() as source, source.open(FileSource(url, headers or {})) as given:
        [block async for block in given.body.blocks(Layout(65536))]
        return given
