"""Which answers are accepted, and which break a limit or HTTP."""

import asyncio
import contextlib
import errno
import os
import socket
import ssl
import struct
import time
from pathlib import Path

import pytest
import trustme

from pantala_supernode.outbound.client import OutboundClient
from pantala_supernode.outbound.errors import Fault, OutboundError
from pantala_supernode.outbound.request import Head, Limits, Request, Timeouts
from pantala_supernode.outbound.trust import Trust
from tests.support.eventually import eventually
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


def padded(size: int) -> str:
    """An answer whose head has exactly so many bytes."""
    plain = f"{OK}Content-Length: 2\r\n"
    return f"{plain}X: {'x' * (size - len(plain) - 7)}\r\n\r\nok"


@pytest.mark.parametrize(
    "text",
    [
        padded(HEAD_LIMIT),
        padded(9_000),
        OK + "".join(f"X-{number}: x\r\n" for number in range(300)) + TWO,
        OK + "Content-Length: 2\r\nContent-Length: 2\r\n\r\nok",
        OK + "X-Long: " + "x" * 30_000 + "\r\n" + TWO,
        OK + "X-Empty:\r\n" + TWO,
        OK + "X-Bytes: \x80\xff\r\n" + TWO,
        "HTTP/1.1 200\r\n" + TWO,
        OK + "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Trailer: x\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n" + OK + TWO,
        "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + OK + TWO,
        OK + "Content-Length: 2, 2\r\n\r\nok",
        OK + "Transfer-Encoding: identity\r\n" + TWO,
        OK + "Content-Length : 2\r\n\r\nok",
        OK + "X-Folded: a\r\n b\r\n" + TWO,
        OK + "Content-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nok\r\n0\r\n\r\n",
        (OK + TWO).replace("\r", ""),
        (OK + TWO).replace("1.1", "1.0"),
        (OK + TWO).replace("HTTP", "http"),
    ],
    ids=[
        *(
            "limit",
            "9 kB",
            "300 fields",
            "equal lengths",
            "long value",
            "empty",
            "bytes",
            "no phrase",
            "trailer",
            "103",
        ),
        *(
            "102 and 100",
            "list of lengths",
            "identity",
            "blank",
            "folded",
            "two framings",
            "line feeds",
            "HTTP/1.0",
            "http/1.1",
        ),
    ],
)
async def test_an_unusual_answer_is_accepted(text: str) -> None:
    head, body, _ = await answered(text)
    assert (200, b"ok") == (head.status, body)


@pytest.mark.parametrize(
    ("fields", "whole"),
    [
        ("Transfer-Encoding: identity\r\nContent-Length: 2", True),
        ("Content-Length : 2", True),
        ("Transfer-Encoding: identity\r\nContent-Length: 3", False),
        ("Transfer-Encoding: chunked\r\nContent-Length: 2", False),
        ("Content-Type: text/plain", False),
    ],
)
async def test_the_announced_length_ends_a_body_on_an_open_connection(fields: str, *, whole: bool) -> None:
    body = "2\r\nok\r\n" if "chunked" in fields else "ok"
    asked = answered(f"{OK}{fields}\r\n\r\n{body}", timeouts=Timeouts(stall=3.0), kept=True)
    if whole:
        assert b"ok" == (await asked)[1]
        return
    with pytest.raises(OutboundError) as caught:
        await asked
    assert Fault.TIMEOUT is caught.value.fault


@pytest.mark.parametrize("path", ["a%2fb%c3%a9", "%2e%2e/x", "a//b/./c", "k?sig=a%2fb%2B&x=a+b", "?only=query"])
async def test_a_request_has_the_characters_of_its_url(path: str) -> None:
    _, _, asked = await answered(OK + TWO, path=path)
    assert f"GET /{path} HTTP/1.1" == asked.decode("latin-1").splitlines()[0]


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        (padded(HEAD_LIMIT + 1), {Fault.HEAD_TOO_LARGE}),
        (OK + "X: x\r\n" * HEAD_LIMIT, {Fault.HEAD_TOO_LARGE}),
        (OK + "Content-Length: 2\r\nContent-Length: 3\r\n\r\nok", {Fault.PROTOCOL}),
        (OK + "Content-Length: -2\r\n\r\nok", {Fault.PROTOCOL}),
        (OK + "Content-Length: two\r\n\r\nok", {Fault.PROTOCOL}),
        ("garbage\r\n\r\n", {Fault.PROTOCOL}),
        (OK + "Transfer-Encoding: chunked\r\n\r\nzz\r\nok\r\n", {Fault.PROTOCOL}),
        (OK + "Content-Length: 3\r\n\r\nok", {Fault.INTERRUPTED}),
        (OK + "Content-Length: 1\r\n\r\nok", {Fault.BODY_TOO_LONG}),
        ("", {Fault.INTERRUPTED}),
    ],
    ids=["limit + 1", "endless", "two lengths", "negative", "word", "garbage", "chunk", "cut", "long", "nothing"],
)
async def test_a_wrong_answer_is_refused(text: str, faults: set[Fault]) -> None:
    with pytest.raises(OutboundError) as caught:
        await answered(text)
    assert caught.value.fault in faults


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


async def test_the_body_of_an_answer_to_head_is_not_awaited() -> None:
    head, body, _ = await answered(OK + "Content-Length: 1000\r\n\r\n", method="HEAD")
    assert (200, "1000", b"") == (head.status, head.fields["Content-Length"], body)


async def test_bytes_above_127_pass_in_both_directions() -> None:
    head, _, asked = await answered(OK + "X-Bytes: \x80\xff\r\n" + TWO)
    assert head.fields["X-Bytes"] == "\x80\xff"
    assert b"X-Name: \xe9t\xe9\r\n" in asked


@pytest.mark.parametrize(("first", "allowed"), [(0.2, True), (4.0, False)])
async def test_the_first_byte_has_a_deadline(first: float, *, allowed: bool) -> None:
    began = time.monotonic()
    if allowed:
        head, _, _ = await answered(OK + TWO, first=first, timeouts=Timeouts(first_byte=1.0))
        assert head.status == 200
        return
    with pytest.raises(OutboundError) as caught:
        await answered(OK + TWO, first=first, timeouts=Timeouts(first_byte=1.0))
    assert caught.value.fault is Fault.TIMEOUT
    assert time.monotonic() - began < 3.5


class CountingSink:
    """A sink that counts the blocks of a body."""

    def __init__(self) -> None:
        self.blocks = 0
        self.size = 0

    def begin(self, _: Head) -> None: ...

    def take(self, data: bytes) -> None:
        self.blocks += 1
        self.size += len(data)


async def test_the_packets_of_a_slow_server_are_read_together() -> None:
    packet, count = b"x" * 6144, 512

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"{OK}Content-Length: {len(packet) * count}\r\n\r\n".encode())
        for _ in range(count):
            writer.write(packet)
            await asyncio.sleep(0.001)

    async with raw_server(serve) as url, OutboundClient(egress=local_egress(), limits=Limits()) as client:
        sink = CountingSink()
        await client.send(Request(url, {}), sink)
    assert len(packet) * count == sink.size
    assert sink.blocks < 400


@pytest.mark.parametrize("reset", [False, True])
async def test_a_cut_during_the_tls_handshake_says_nothing_about_the_certificate(*, reset: bool) -> None:
    """A load balancer that restarts does this. The next try comes soon, and a registry's next endpoint is tried."""

    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1 if reset else 65_536)
        if reset:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    async with raw_server(cut) as url, OutboundClient(egress=local_egress()) as client:
        with pytest.raises(OutboundError) as caught:
            await client.send(Request(url.replace("http:", "https:"), {}), Kept())
    assert Fault.INTERRUPTED is caught.value.fault
    assert "cut the connection (in the TLS handshake)" == str(caught.value)


async def test_a_server_without_tls_is_named_as_such() -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65_536)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            await reader.read()  # until the client has understood and ends the connection

    async with raw_server(plain) as url, OutboundClient(egress=local_egress()) as client:
        with pytest.raises(OutboundError) as caught:
            await client.send(Request(url.replace("http:", "https:"), {}), Kept())
    assert Fault.NO_TLS is caught.value.fault


@pytest.mark.parametrize(
    ("framing", "reset", "complete"),
    [
        ("Content-Length: 9", False, False),
        ("Transfer-Encoding: chunked", False, False),
        ("Connection: close", False, True),
        ("Connection: close", True, False),
    ],
)
async def test_the_end_of_a_connection_with_tls_ends_only_a_body_without_framing(
    tmp_path: Path, framing: str, *, reset: bool, complete: bool
) -> None:
    """The server ends the connection without the message that TLS demands. Only a digest can show if this is a cut."""
    authority, tls = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"{OK}{framing}\r\n\r\n9\r\nbody".encode())
        await eventually(lambda: sink.data.endswith(b"body"))  # a reset would take away what the client has not read
        own = writer.get_extra_info("socket")
        if reset:
            own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        else:
            own.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):
            await reader.read()

    trust, sink = Trust([("127.0.0.1", tmp_path / "ca.pem")]), Kept()
    async with raw_server(serve, tls) as url, OutboundClient(egress=local_egress(), trust=trust) as client:
        if complete:
            await client.send(Request(url, {}), sink)
            assert b"9\r\nbody" == sink.data
            return
        with pytest.raises(OutboundError) as caught:
            await client.send(Request(url, {}), sink)
    assert Fault.INTERRUPTED is caught.value.fault


async def test_an_answer_is_complete_although_no_descriptor_is_left_for_the_next_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def exhausted(_: int) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(os, "dup", exhausted)
    _, body, _ = await answered(OK + TWO)
    assert b"ok" == body


async def test_a_request_without_a_socket_fails_and_is_no_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: object) -> socket.socket:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    async with OutboundClient(egress=local_egress()) as client:
        monkeypatch.setattr("pantala_supernode.outbound.transfer.socket.socket", exhausted)
        with pytest.raises(OutboundError, match="no socket is left") as caught:
            await client.send(Request("http://127.0.0.1:9/", {}), Kept())
    assert Fault.UNREACHABLE is caught.value.fault
