"""Pieces are fetched from scripted providers over real sockets. Each possible fault of an answer has its error."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from pantala_pieces.transfer.deadlines import ReceiveTimeouts
from pantala_pieces.transfer.errors import (
    CorruptError,
    FetchError,
    MissingError,
    ProviderRefusedError,
    ProviderUnreachableError,
    StalledError,
)
from pantala_pieces.transfer.jobs import JobCancelledError, PieceBuffer
from pantala_pieces.transfer.providers import Providers
from pantala_protocol.geometry import Wrapping
from pantala_protocol.sync import PieceWork
from testbed.certificates import DAY, ProcessAuthority
from tests.support.eventually import eventually
from tests.support.scripted_provider import (
    BODY,
    GOOD,
    SIZE,
    SLICES,
    Script,
    answer,
    fetch,
    half_then_silence,
    job,
    provider,
    reset,
    silence,
    work,
)


@pytest.fixture
async def providers() -> AsyncIterator[Providers]:
    client = Providers(connect_timeout=1.0, timeouts=ReceiveTimeouts(head=0.8, stall=0.8))
    yield client
    client.close()
    await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    "script",
    [
        answer(GOOD + BODY),
        answer(GOOD, BODY, pause=0.02),
        answer(GOOD[:10], GOOD[10:-3], GOOD[-3:] + BODY[:1], BODY[1:-1], BODY[-1:], pause=0.02),
        answer(GOOD, *SLICES, pause=0.3),
        answer(GOOD.replace(b"Content-Range", b"content-RANGE").replace(b" Partial Content", b"") + BODY),
    ],
    ids=["at once", "head first", "odd cuts", "slow but steady", "other spelling"],
)
async def test_a_piece_is_received(providers: Providers, script: Script) -> None:
    async with provider(script) as scripted:
        assert await fetch(providers, work(scripted.port)) == BODY


async def test_the_request_names_range_and_ticket(providers: Providers) -> None:
    async with provider(answer(GOOD + BODY)) as scripted:
        await fetch(providers, work(scripted.port))
    expected = (
        f"GET /pieces/{'a' * 64}/g1 HTTP/1.1\r\nHost: 127.0.0.1:{scripted.port}\r\n"
        f"X-Pantala-Ticket: 1.ab\r\nRange: bytes=1000-{1000 + SIZE - 1}\r\n\r\n"
    )
    assert [expected.encode()] == scripted.heads


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (answer(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"), MissingError),
        (answer(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"), ProviderRefusedError),
        (answer(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"), ProviderRefusedError),
        (answer(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"), ProviderRefusedError),
        (answer(b"HTTP/1.1 302 Found\r\nLocation: http://other/\r\n\r\n"), ProviderRefusedError),
        (answer(GOOD + BODY[:-1], end=True), ProviderUnreachableError),
        (answer(GOOD, end=True), ProviderUnreachableError),
        (answer(b"", end=True), ProviderUnreachableError),
        (reset, ProviderUnreachableError),
        (silence, StalledError),
        (half_then_silence, StalledError),
        (answer(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), CorruptError),
        (answer(b"HTTP/1.0 206 OK\r\nContent-Length: 1\r\n\r\n"), CorruptError),
        (answer(bytes(20_000)), CorruptError),
        (answer(b"HTTP/1.1 206 OK\r\n" + b"X: y\r\n" * 5000), CorruptError),
        (answer(GOOD.replace(b"%d\r\nContent-Type" % SIZE, b"%d\r\nContent-Type" % (SIZE - 1)) + BODY), CorruptError),
        (answer(GOOD.replace(b"%d\r\nContent-Type" % SIZE, b"%d\r\nContent-Type" % (SIZE + 1)) + BODY), CorruptError),
        (answer(GOOD.replace(b"Content-Length", b"X-Length") + BODY), CorruptError),
        (answer(GOOD.replace(b"Content-Range", b"X-Range") + BODY), CorruptError),
        (answer(GOOD.replace(b"1000-", b"1001-") + BODY), CorruptError),
        (answer(GOOD.replace(b"Content-Type:", b"Transfer-Encoding: chunked\r\nX:") + BODY), CorruptError),
        (answer(GOOD.replace(b"Content-Type:", b"Content-Encoding: gzip\r\nX:") + BODY), CorruptError),
        (answer(GOOD.replace(b"Content-Type:", b"Content-Length: 1\r\nX:") + BODY), CorruptError),
        (answer(GOOD.replace(b"Content-Type:", b"no colon here\r\nX:") + BODY), CorruptError),
    ],
)
async def test_each_fault_has_its_error(providers: Providers, script: Script, expected: type[FetchError]) -> None:
    async with provider(script) as scripted, asyncio.timeout(5):
        with pytest.raises(expected):
            await fetch(providers, work(scripted.port))


async def test_a_body_that_is_longer_than_announced_is_rejected(providers: Providers) -> None:
    short = GOOD.replace(b"%d/" % (1000 + SIZE - 1), b"1009/").replace(b"Length: %d" % SIZE, b"Length: 10")
    async with provider(answer(short + BODY[:11])) as scripted:
        with pytest.raises(CorruptError):
            await fetch(providers, work(scripted.port, size=10))


async def test_a_provider_that_does_not_listen_or_resolve_is_unreachable(providers: Providers) -> None:
    async with provider(silence) as scripted:
        port = scripted.port
    with pytest.raises(ProviderUnreachableError):
        await fetch(providers, work(port))
    with pytest.raises(ProviderUnreachableError):
        await fetch(providers, work(port, host="nowhere.invalid"))


async def test_a_connection_is_reused(providers: Providers) -> None:
    async with provider(answer(GOOD + BODY)) as scripted:
        for _ in range(3):
            await fetch(providers, work(scripted.port))
        assert 1 == scripted.connections
        for _ in range(3):
            await asyncio.gather(*(fetch(providers, work(scripted.port)) for _ in range(3)))
        assert scripted.connections <= 3, "three fetches at a time need at most three connections"


@pytest.mark.parametrize(
    "script",
    [
        answer(GOOD + BODY, end=True),
        answer(GOOD.replace(b"Content-Type:", b"Connection: close\r\nX:") + BODY),
        answer(GOOD, BODY, b"HTTP/1.1 206 more\r\n\r\n", pause=0.05),
    ],
    ids=["closed", "close header", "bytes without a request"],
)
async def test_a_connection_that_may_not_be_reused_is_replaced(providers: Providers, script: Script) -> None:
    async with provider(script) as scripted:
        for _ in range(2):
            assert BODY == await fetch(providers, work(scripted.port))
            await asyncio.sleep(0.2)
        assert 2 == scripted.connections


async def test_a_request_on_a_broken_reused_connection_is_repeated_on_a_new_one(providers: Providers) -> None:
    async def script(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(scripted.heads) == 2:
            writer.transport.abort()
        else:
            writer.write(GOOD + BODY)

    async with provider(script) as scripted:
        await fetch(providers, work(scripted.port))
        assert await fetch(providers, work(scripted.port)) == BODY
        assert len(scripted.heads) == 3
        assert scripted.connections == 2


@pytest.mark.parametrize("script", [silence, half_then_silence])
async def test_a_cancelled_fetch_ends_without_waiting_for_the_provider(script: Script) -> None:
    client = Providers(connect_timeout=1.0, timeouts=ReceiveTimeouts(head=600.0, stall=600.0))
    async with provider(script) as scripted:
        running = job(work(scripted.port))
        fetching = asyncio.create_task(asyncio.to_thread(client.fetch, running, PieceBuffer()))
        await eventually(lambda: scripted.heads)
        assert running.cancel()
        async with asyncio.timeout(20):
            with pytest.raises((JobCancelledError, ProviderUnreachableError)):
                await fetching
        assert 1 == scripted.connections
    client.close()


async def test_a_job_that_is_cancelled_before_its_request_sends_none(providers: Providers) -> None:
    async with provider(answer(GOOD + BODY)) as scripted:
        await fetch(providers, work(scripted.port))
        cancelled = job(work(scripted.port))
        assert cancelled.cancel()
        with pytest.raises(JobCancelledError):
            await asyncio.to_thread(providers.fetch, cancelled, PieceBuffer())
        assert 1 == len(scripted.heads)


@pytest.mark.parametrize("text", ["a b", "a\r\nX: y", "", "ä"])
async def test_a_request_cannot_be_injected(providers: Providers, text: str) -> None:
    for name in ("generation", "ticket", "host", *(["path"] if text else [])):
        with pytest.raises(ProviderRefusedError):
            await fetch(providers, work(1, **{name: text}))


WRAPPING = Wrapping(1000)
CONTENT = b"0123456789"


def wrapped_work(port: int, path: str = "/peer/file/f") -> PieceWork:
    return work(port, piece=2, offset=2000, size=len(CONTENT), digest="", path=path, wire_size=WRAPPING.wire_size)


async def test_head_and_tail_are_removed_and_the_range_is_the_wrapped_one(providers: Providers) -> None:
    body = WRAPPING.wrap(CONTENT)
    head = b"HTTP/1.1 206 Partial Content\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with provider(answer(head + body)) as uploader:
        assert CONTENT == await fetch(providers, wrapped_work(uploader.port))
    lines = uploader.heads[0].decode().split("\r\n")
    assert "GET /peer/file/f HTTP/1.1" == lines[0]
    assert {"Range: bytes=2010-2024", "pieceNum: 2", "pieceSize: 1005"} <= set(lines)


async def test_a_piece_without_its_head_and_tail_is_corrupt(providers: Providers) -> None:
    head = b"HTTP/1.1 206 Partial Content\r\nContent-Length: 9\r\n\r\n"
    async with provider(answer(head + CONTENT[:-1])) as uploader:
        with pytest.raises(CorruptError):
            await fetch(providers, wrapped_work(uploader.port))


async def test_a_piece_is_received_with_tls_over_a_reused_connection() -> None:
    authority = ProcessAuthority()
    timeouts = ReceiveTimeouts(head=2.0, stall=2.0)
    client = Providers(connect_timeout=2.0, timeouts=timeouts, tls=authority.contexts("me.peer.pantala"))
    server = authority.contexts("uploader.peer.pantala").server
    async with provider(answer(GOOD, *SLICES), server) as scripted:
        for _ in range(2):
            assert BODY == await fetch(client, work(scripted.port, provider="uploader"))
        assert 1 == scripted.connections
        client.close()


@pytest.mark.parametrize("case", ["other name", "other authority", "expired", "supernode", "no name"])
async def test_h9_a_provider_with_another_certificate_is_refused(case: str) -> None:
    authority, other, past = ProcessAuthority(), ProcessAuthority(), time.time() - 3 * DAY
    server = {
        "other name": authority.contexts("uploader-2.peer.pantala"),
        "other authority": other.contexts("uploader.peer.pantala", trusts=authority.bundle),
        "expired": authority.contexts("uploader.peer.pantala", now=past),
        "supernode": authority.contexts("uploader.supernode.pantala"),
        "no name": authority.contexts("127.0.0.1"),
    }[case]
    client = Providers(
        connect_timeout=2.0, timeouts=ReceiveTimeouts(head=2.0, stall=2.0), tls=authority.contexts("me.peer.pantala")
    )
    given = {"provider": "uploader"} if case != "no name" else {"certificate": ""}
    async with provider(answer(GOOD, *SLICES), server.server) as scripted:
        with pytest.raises(ProviderUnreachableError, match="certificate"):
            await fetch(client, work(scripted.port, **given))
    client.close()
