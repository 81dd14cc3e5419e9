"""Where an answer ends: cuts, resets, and answers that are not valid HTTP."""

import email.utils
import time

import pytest

from pantala_supernode import errors
from pantala_supernode.origin import refusal
from pantala_supernode.origin.body import Layout
from pantala_supernode.tasks.copy import FileSource
from testbed.origin import Behaviour, Bytes, Origin
from tests.support.http_answers import BODY, ask, garbage
from tests.support.outbound import http_reader


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_a_reset_is_an_interruption(framing: str) -> None:
    with pytest.raises(errors.SourceInterruptedError):
        await ask(Behaviour(reset_after=1000, framing=framing))  # type: ignore[arg-type]


async def test_bytes_after_the_end_are_noticed_on_a_kept_connection() -> None:
    async with Origin() as origin, http_reader() as source:
        origin.serve("/file", BODY, script=[Behaviour()], always=Behaviour(announced=-5, chunk=BODY.size - 5))
        async with source.open(FileSource(origin.url("/file"))) as answer:
            assert BODY.read(0, BODY.size) == b"".join([block async for block in answer.body.blocks(Layout(65536))])
        async with source.open(FileSource(origin.url("/file"))) as answer:
            with pytest.raises(errors.LengthMismatchError):
                _ = [block async for block in answer.body.blocks(Layout(65536))]


@pytest.mark.parametrize(
    "text",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nbody",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 300_000 + b"\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\nbody",
        b"HTTP/1.1\t200 OK\r\nContent-Length: 4\r\n\r\nbody",
    ],
)
async def test_invalid_http_is_a_protocol_error_that_does_not_quote_it(text: bytes) -> None:
    with pytest.raises(errors.SourceProtocolError) as caught:
        await garbage(text)
    assert "SSH" not in str(caught.value)
    assert len(str(caught.value)) < 300


FAR = b"Mon, 01 Jan 2001 00:00:00 -" + b"9" * 30


"""A date that no computer can represent."""


@pytest.mark.parametrize("head", [b"Content-Length: " + b"9" * 5000, b"Date: " + FAR + b"\r\nLast-Modified: " + FAR])
async def test_numbers_without_a_meaning_count_as_absent(head: bytes) -> None:
    answer = await garbage(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\nbody")
    assert (None, "") == (answer.length, answer.last_modified)


async def test_a_connection_closed_without_an_answer_is_an_interruption() -> None:
    with pytest.raises(errors.SourceInterruptedError):
        await garbage(b"")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5", 5.0),
        ("999999", 3600.0),
        ("soon", None),
        ("", None),
        ("-5", None),
        ("\u0665", None),
        (FAR.decode(), None),
        ("Mon, 99999999999999999999 Jan 2001 00:00:00 GMT", None),
    ],
)
def test_retry_after_is_read_in_seconds(text: str, expected: float | None) -> None:
    with pytest.raises(errors.SourceAnswerError) as caught:
        refusal.raise_for_status(503, {"Retry-After": text}, "http://x/")  # type: ignore[arg-type]
    assert expected == caught.value.retry_after


def test_retry_after_is_read_as_a_date() -> None:
    with pytest.raises(errors.SourceAnswerError) as caught:
        refusal.raise_for_status(429, {"Retry-After": email.utils.formatdate(time.time() + 100)}, "x")  # type: ignore[arg-type]
    assert caught.value.retry_after is not None
    assert 90 < caught.value.retry_after <= 100
    assert "x answered 429, because it received too many requests. " in str(caught.value)


async def test_an_empty_body_is_a_body() -> None:
    async with Origin() as origin, http_reader() as source:
        origin.serve("/file", Bytes(b""))
        async with source.open(FileSource(origin.url("/file"))) as answer:
            assert (0, []) == (answer.length, [block async for block in answer.body.blocks(Layout(65536))])
