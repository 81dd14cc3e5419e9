"""Redirects and their cookies."""

import asyncio

import pytest

from pantala_supernode.outbound.client import OutboundClient
from pantala_supernode.outbound.errors import Fault, OutboundError
from pantala_supernode.outbound.request import Request
from tests.support.outbound import local_egress, raw_server
from tests.support.raw_answers import OK, TWO, Kept


async def test_a_location_of_9_kb_is_followed() -> None:
    paths = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        paths.append((await reader.readuntil(b"\r\n\r\n")).split(b" ")[1])
        fields = f"Content-Length: 0\r\nConnection: close\r\nLocation: /{'x' * 9_000}\r\n\r\n"
        writer.write((f"HTTP/1.1 302 Found\r\n{fields}" if paths[-1] == b"/" else OK + TWO).encode())

    async with raw_server(serve) as url, OutboundClient(egress=local_egress()) as client:
        head = await client.send(Request(url, {}), Kept())
    assert (200, [1, 9_001]) == (head.status, [len(path) for path in paths])


class CookieServer:
    """Redirects each request to itself until the cookie comes back. ``elsewhere``: the end of the redirects."""

    def __init__(self, elsewhere: str = "") -> None:
        self.cookies: list[str] = []
        self._elsewhere = elsewhere

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
        self.cookies.append("; ".join(line[8:] for line in lines if line.startswith("Cookie: ")))
        location = self._elsewhere or lines[0].split()[1]
        if "seen=1" in self.cookies[-1]:
            writer.write((OK + "Connection: close\r\n" + TWO).encode())
            return
        fields = f"Location: {location}\r\nSet-Cookie: seen=1; path=/\r\nContent-Length: 0\r\nConnection: close"
        writer.write(f"HTTP/1.1 302 Found\r\n{fields}\r\n\r\n".encode())


async def test_a_cookie_of_a_redirect_comes_back_within_one_request_only() -> None:
    server = CookieServer()
    async with raw_server(server.serve) as url, OutboundClient(egress=local_egress()) as client:
        for _ in range(2):
            assert 200 == (await client.send(Request(url, {}), Kept())).status
        assert ["", "seen=1"] * 2 == server.cookies
        with pytest.raises(OutboundError) as caught:
            await client.send(Request(url, {}, {"Cookie": "own=1"}), Kept())
    assert (Fault.REDIRECTS, {"own=1"}) == (caught.value.fault, set(server.cookies[4:]))


async def test_a_cookie_of_a_redirect_does_not_reach_another_host() -> None:
    other = CookieServer()
    async with raw_server(other.serve) as there, OutboundClient(egress=local_egress()) as client:
        server = CookieServer(there.replace("127.0.0.1", "localhost"))
        async with raw_server(server.serve) as url:
            assert 200 == (await client.send(Request(url, {}), Kept())).status
    assert ([""], ["", "seen=1"]) == (server.cookies, other.cookies)


@pytest.mark.parametrize(("status", "followed"), [(300, True), (303, True), (304, False), (305, False), (201, False)])
async def test_only_statuses_that_redirect_are_followed(status: int, *, followed: bool) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = b"GET / " in await reader.readuntil(b"\r\n\r\n")
        fields = "Content-Length: 0\r\nConnection: close\r\nLocation: /next\r\n\r\n"
        writer.write((f"HTTP/1.1 {status} X\r\n{fields}" if first else OK + TWO).encode())

    async with raw_server(serve) as url, OutboundClient(egress=local_egress()) as client:
        head = await client.send(Request(url, {}), Kept())
    assert ((200, f"{url}next") if followed else (status, url)) == (head.status, head.url)
