"""What a peer accepts as the answer of a supernode, byte by byte."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pantala_peer.sync.channel import MAX_ANSWER, ChannelAnswer, ChannelError, ExchangeChannel, StaleChannelError

GOOD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"

BROKEN = {
    "no HTTP": b"hello\r\n\r\n",
    "another version": b"HTTP/2 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "a long status": b"HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\n{}",
    "no length": b"HTTP/1.1 200 OK\r\n\r\n{}",
    "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "length and chunks": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\ncontent-length: 3\r\n\r\n{}",
    "a negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\n{}",
    "a length with a sign": b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\n{}",
    "a huge length": b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 400 + b"\r\n\r\n",
    "too large": b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (MAX_ANSWER + 1),
    "compressed": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Encoding: gzip\r\n\r\n{}",
    "a folded header": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n X: y\r\n\r\n{}",
    "a bare line feed": b"HTTP/1.1 200 OK\r\nX: a\nContent-Length: 9\r\n\r\n{}",
    "a huge head": b"HTTP/1.1 200 OK\r\nX: " + b"a" * 20_000,
}


class FakeTransport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.sent = bytearray()
        self.aborted = False

    def write(self, data: Any) -> None:
        self.sent += data

    def abort(self) -> None:
        self.aborted = True


def opened() -> tuple[ExchangeChannel, FakeTransport]:
    channel, transport = ExchangeChannel(), FakeTransport()
    channel.connection_made(transport)
    return channel, transport


async def answered(*parts: bytes) -> tuple[ChannelAnswer, ExchangeChannel]:
    """The answer that arrives in these parts."""
    channel, _ = opened()
    asking = asyncio.create_task(channel.ask(b"request", timeout=5))
    await asyncio.sleep(0)
    for part in parts:
        channel.data_received(part)
    return await asking, channel


async def test_an_answer_may_arrive_in_any_parts() -> None:
    for cut in range(1, len(GOOD)):
        answer, channel = await answered(GOOD[:cut], GOOD[cut:])
        assert ChannelAnswer(200, b"{}") == answer
        assert not channel.closed


@pytest.mark.parametrize("broken", BROKEN)
async def test_a_broken_answer_is_refused_and_the_connection_closed(broken: str) -> None:
    channel, transport = opened()
    asking = asyncio.create_task(channel.ask(b"request", timeout=5))
    await asyncio.sleep(0)
    channel.data_received(BROKEN[broken])
    with pytest.raises(ChannelError):
        await asking
    assert transport.aborted
    with pytest.raises(StaleChannelError):
        await channel.ask(b"request", timeout=5)


@pytest.mark.parametrize(
    "last", [GOOD + b"HTTP/1.1 200 OK", GOOD.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")]
)
async def test_after_the_last_answer_the_connection_closes(last: bytes) -> None:
    answer, channel = await answered(last)
    assert b"{}" == answer.body
    assert channel.closed


async def test_bytes_without_a_request_close_the_connection() -> None:
    channel, transport = opened()
    channel.data_received(GOOD)
    assert transport.aborted


async def test_a_connection_that_closes_before_the_answer_was_stale() -> None:
    channel, _ = opened()
    asking = asyncio.create_task(channel.ask(b"request", timeout=5))
    await asyncio.sleep(0)
    channel.connection_lost(None)
    with pytest.raises(StaleChannelError):
        await asking


@pytest.mark.parametrize("received", [b"H", GOOD[:-1]])
async def test_a_connection_that_closes_within_the_answer_was_not_stale(received: bytes) -> None:
    channel, _ = opened()
    asking = asyncio.create_task(channel.ask(b"request", timeout=5))
    await asyncio.sleep(0)
    channel.data_received(received)
    channel.connection_lost(ConnectionResetError("reset"))
    with pytest.raises(ChannelError) as caught:
        await asking
    assert not isinstance(caught.value, StaleChannelError)


@pytest.mark.virtual_time
async def test_an_answer_must_arrive_in_time() -> None:
    channel, transport = opened()
    with pytest.raises(TimeoutError):
        await channel.ask(b"request", timeout=20)
    assert 20 == pytest.approx(asyncio.get_running_loop().time(), abs=0.1)
    assert transport.aborted


@given(st.lists(st.one_of(st.binary(max_size=40), st.sampled_from([GOOD, *BROKEN.values()])), max_size=6))
def test_any_bytes_end_with_an_answer_an_error_or_a_wait(parts: list[bytes]) -> None:
    async def feed() -> None:
        channel, _ = opened()
        asking = asyncio.create_task(channel.ask(b"request", timeout=5))
        await asyncio.sleep(0)
        for part in parts:
            channel.data_received(part)
        channel.connection_lost(None)
        try:
            assert 0 <= (await asking).status <= 999
        except ChannelError:
            assert channel.closed

    asyncio.run(feed())
