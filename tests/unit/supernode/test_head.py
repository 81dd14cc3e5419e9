"""Which heads the front reads itself. It never reads a head in another way than aiohttp."""

import asyncio
from typing import Any

import pytest
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import HttpRequestParser
from hypothesis import given
from hypothesis import strategies as st

from pantala_supernode.http.head import PlainHead, UnusualHeadError, read_head, read_query

POST = b"POST /api/v1/sync HTTP/1.1\r\nHost: s\r\nContent-Type: application/json\r\nContent-Length: 12\r\n\r\n"
GET = b"GET /peer/task?srcCid=a&taskId=b HTTP/1.1\r\nHost: s\r\nUser-Agent: dfget\r\n\r\n"

UNUSUAL = {
    "a method": b"PUT / HTTP/1.1\r\nHost: s\r\nContent-Length: 0\r\n\r\n",
    "a version": b"GET / HTTP/1.0\r\n\r\n",
    "a strange version": b"GET / HTTP/1.1 \r\n\r\n",
    "two blanks": b"GET  / HTTP/1.1\r\nHost: s\r\n\r\n",
    "a tab for a blank": b"GET\t/ HTTP/1.1\r\nHost: s\r\n\r\n",
    "a tab in the target": b"GET /\ta HTTP/1.1\r\nHost: s\r\n\r\n",
    "a whole URL": b"GET http://s/ HTTP/1.1\r\nHost: s\r\n\r\n",
    "a fragment": b"GET /#a HTTP/1.1\r\nHost: s\r\n\r\n",
    "a line before": b"\r\nGET / HTTP/1.1\r\nHost: s\r\n\r\n",
    "no length": b"POST / HTTP/1.1\r\nHost: s\r\n\r\n",
    "a length without a body": b"GET / HTTP/1.1\r\nHost: s\r\nContent-Length: 0\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\nHost: s\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
    "a list of lengths": b"POST / HTTP/1.1\r\nHost: s\r\nContent-Length: 1, 1\r\n\r\n",
    "a length with a sign": b"POST / HTTP/1.1\r\nHost: s\r\nContent-Length: +1\r\n\r\n",
    "a negative length": b"POST / HTTP/1.1\r\nHost: s\r\nContent-Length: -1\r\n\r\n",
    "a hexadecimal length": b"POST / HTTP/1.1\r\nHost: s\r\nContent-Length: 0x1\r\n\r\n",
    "an empty length": b"POST / HTTP/1.1\r\nHost: s\r\nContent-Length:\r\n\r\n",
    "a huge length": b"POST / HTTP/1.1\r\nHost: s\r\nContent-Length: 9999999999\r\n\r\n",
    "chunks": b"POST / HTTP/1.1\r\nHost: s\r\nTransfer-Encoding: chunked\r\n\r\n",
    "length and chunks": b"POST / HTTP/1.1\r\nHost: s\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    "a blank in a name": b"POST / HTTP/1.1\r\nHost: s\r\nContent-Length : 1\r\n\r\n",
    "a folded header": b"POST / HTTP/1.1\r\nHost: s\r\nContent-Length: 1\r\nAccept: a\r\n b\r\n\r\n",
    "a bare line feed": b"POST / HTTP/1.1\nContent-Length: 1\r\n\r\n",
    "a bare line feed in a value": b"POST / HTTP/1.1\r\nHost: a\nContent-Length: 1\r\n\r\n",
    "a bare carriage return": b"POST / HTTP/1.1\r\nHost: a\rb\r\nContent-Length: 1\r\n\r\n",
    "a zero": b"POST / HTTP/1.1\r\nHost: a\0\r\nContent-Length: 1\r\n\r\n",
    "a byte above ASCII": b"POST / HTTP/1.1\r\nHost: \xc3\xa4\r\nContent-Length: 1\r\n\r\n",
    "a line without a colon": b"GET / HTTP/1.1\r\nHost: s\r\nAccept\r\n\r\n",
    "a line without a name": b"GET / HTTP/1.1\r\nHost: s\r\n: a\r\n\r\n",
    "two tokens": b"GET / HTTP/1.1\r\nHost: s\r\nAuthorization: a\r\nAuthorization: b\r\n\r\n",
    "an expectation": b"POST / HTTP/1.1\r\nHost: s\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n",
    "an upgrade": b"GET / HTTP/1.1\r\nHost: s\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
    "a last request": b"GET / HTTP/1.1\r\nHost: s\r\nConnection: close\r\n\r\n",
    "an encoding": b"POST / HTTP/1.1\r\nHost: s\r\nContent-Length: 1\r\nContent-Encoding: gzip\r\n\r\n",
    "an unknown header": b"GET / HTTP/1.1\r\nHost: s\r\nX-Forwarded-For: a\r\n\r\n",
    "a huge head": b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: s\r\n\r\n",
    "a head without an end": b"GET / HTTP/1.1\r\nHost: " + b"a" * 9000,
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: s\r\nHost: t\r\n\r\n",
}


def test_plain_heads_are_read() -> None:
    assert PlainHead("POST", "/api/v1/sync", "", 12, "", len(POST)) == read_head(bytearray(POST + b"body"))
    assert PlainHead("GET", "/peer/task", "srcCid=a&taskId=b", 0, "", len(GET)) == read_head(bytearray(GET + GET))


def test_the_token_and_a_kept_connection_are_plain() -> None:
    head = read_head(
        bytearray(b"GET / HTTP/1.1\r\nHost: s\r\nconnection: Keep-Alive\r\nAUTHORIZATION:  Bearer x \r\n\r\n")
    )
    assert head is not None
    assert "Bearer x" == head.authorization


@pytest.mark.parametrize("plain", [GET, POST])
def test_a_head_is_read_when_all_of_it_has_arrived(plain: bytes) -> None:
    for end in range(len(plain)):
        assert read_head(bytearray(plain[:end])) is None


@pytest.mark.parametrize("unusual", UNUSUAL)
def test_other_heads_are_left_to_aiohttp(unusual: str) -> None:
    with pytest.raises(UnusualHeadError):
        read_head(bytearray(UNUSUAL[unusual]))


@pytest.mark.parametrize("query", ["a=%41", "a=b+c", "a", "a=1&a=2", "&a=1"])
def test_queries_with_two_readings_are_left_to_aiohttp(query: str) -> None:
    with pytest.raises(UnusualHeadError):
        read_query(query)


def test_plain_queries_are_read() -> None:
    assert {"a": "1", "b": "", "c": "x=y"} == read_query("a=1&b=&c=x=y")
    assert {} == read_query("")


class Ignored(asyncio.BaseProtocol):
    """aiohttp's parser wants a protocol that it can pause."""

    _reading_paused = False

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


def by_aiohttp(data: bytes) -> Any:
    """The head as aiohttp reads it, or ``None`` for a bad request."""
    loop = asyncio.new_event_loop()
    try:
        parser = HttpRequestParser(Ignored(), loop, 2**16)  # type: ignore[arg-type]
        try:
            messages, _, _ = parser.feed_data(data)
        except HttpProcessingError:
            return None
        return messages[0][0] if messages else None
    finally:
        loop.close()


FRAGMENTS = st.sampled_from(
    [
        b"GET ", b"POST ", b"PUT ", b"/", b"/api/v1/sync", b"?a=b", b" HTTP/1.1", b" HTTP/1.0", b"\r\n", b"\r\n\r\n",
        b"\n", b"\r", b" ", b"\t", b":", b"Host: s\r\n", b"Content-Length: 3\r\n", b"Content-Length: 0\r\n",
        b"content-length:4\r\n", b"Content-Length", b"Transfer-Encoding: chunked\r\n", b"Connection: keep-alive\r\n",
        b"Connection: close\r\n", b"Expect: 100-continue\r\n", b"Authorization: Bearer a\r\n", b"abc", b"\0", b"\xff",
    ]
)  # fmt: skip
REQUESTS = st.one_of(
    st.lists(FRAGMENTS, max_size=14).map(b"".join),
    st.builds(
        lambda line, fields, extra: line + b"".join(fields) + b"\r\n" + extra,
        st.sampled_from([b"GET / HTTP/1.1\r\nHost: s\r\n", b"POST /api/v1/sync HTTP/1.1\r\nHost: s\r\n"]),
        st.lists(FRAGMENTS, max_size=6),
        st.binary(max_size=8),
    ),
    st.builds(
        lambda plain, at, byte: plain[:at] + byte + plain[at:],
        st.sampled_from([GET, POST]),
        st.integers(0, 90),
        st.binary(max_size=2),
    ),
)


@given(REQUESTS)
def test_a_head_that_the_front_reads_means_the_same_to_aiohttp(data: bytes) -> None:
    try:
        head = read_head(bytearray(data))
    except UnusualHeadError:
        return
    if head is None:
        return
    other = by_aiohttp(data[: head.size])
    assert other is not None
    assert (head.method, head.path, head.query) == (other.method, other.url.path, other.url.query_string)
    assert (str(head.length) if head.method == "POST" else None) == other.headers.get("Content-Length")
    assert head.authorization == other.headers.get("Authorization", "")
    assert not any((other.should_close, other.upgrade, other.chunked, other.compression))
