"""Which answers are accepted, and which break a limit or HTTP."""

import asyncio
import errno
import os
import socket
import time

import pytest

from pantala_supernode.outbound.client import OutboundClient
from pantala_supernode.outbound.errors import Fault, OutboundError
from pantala_supernode.outbound.request import Head, Limits, Request, Timeouts
from tests.support.outbound import local_egress, raw_server
from tests.support.raw_answers import HEAD_LIMIT, OK, TWO, Kept, answered


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


@pytest.mark.parametrize(
    ("host", "fault", "text"),
    [
        # Linux refuses to connect to a broadcast.
        ("127.255.255.255", Fault.UNREACHABLE, "cannot be reached (network is unreachable)"),
        ("127.0.0.1", Fault.REFUSED, "refused the connection"),
    ],
)
async def test_a_failed_connection_is_named_in_words(host: str, fault: Fault, text: str) -> None:
    async with OutboundClient(egress=local_egress()) as client:
        with pytest.raises(OutboundError) as caught:
            await client.send(Request(f"http://{host}:9/", {}), Kept())
    assert (fault, text) == (caught.value.fault, str(caught.value))
