"""Heads of requests for pieces: the answer does not depend on how their bytes arrive, and no bytes are fatal."""

import re
import time
from http import HTTPStatus

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pantala_pieces.transfer.requests import PieceRequest
from pantala_pieces.transfer.upload.heads import (
    MAX_HEAD,
    PieceRefusedError,
    PieceRoute,
    RequestHead,
    parse,
    piece_head,
    route,
    split,
    wrapped_path,
)
from pantala_protocol.sync import PieceWork

GOOD = (
    b"GET /pieces/task/generation HTTP/1.1\r\nHost: a:1\r\nRange: bytes=0-9\r\n"
    b"x-pantala-TICKET:  node-1.ab \r\nUser-Agent: x\r\n\r\n"
)


def test_a_good_head_is_read() -> None:
    assert RequestHead(b"/pieces/task/generation", b"node-1.ab", b"bytes=0-9", keep=True, announce=False) == parse(GOOD)
    assert PieceRoute(False, "task", "generation", "node-1.ab") == route(parse(GOOD))


@given(st.text("aZ09-._~%/;=", min_size=1, max_size=20), st.text("a-.1:", min_size=1), st.integers(0, 10**12))
def test_the_request_of_our_own_peer_is_read_like_any_other(text: str, host: str, offset: int) -> None:
    work = PieceWork("a" * 64, text, 1, offset, 9, host, 65002, ticket=f"n-1.{text}")
    request = PieceRequest.of(work).text
    expected = RequestHead(
        b"/pieces/" + b"a" * 64 + b"/" + text.encode(),
        f"n-1.{text}".encode(),
        b"bytes=%d-%d" % (offset, offset + 8),
        True,
        False,
    )
    assert [expected, expected] == [parse(request), parse(request.replace(b"Range:", b"range:"))]


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (wrapped_path("1.ab", "task", "generation"), PieceRoute(True, "task", "generation", "1.ab")),
        ("/pieces/%74ask/a%2fb?more=1", PieceRoute(False, "task", "a/b", "")),
        ("http://host:1/pieces/task/g", PieceRoute(False, "task", "g", "")),
        ("/pieces/%ff/%zz", PieceRoute(False, "�", "%zz", "")),
        ("/pieces/task", None),
        ("/pieces/task/g/", None),
        ("/wrapped/task/g", None),
        ("//pieces/task/g", None),
        ("http://host:1", None),
        ("*", None),
    ],
)
def test_a_path_is_one_of_two_routes(target: str, expected: PieceRoute | None) -> None:
    head = parse(f"GET {target} HTTP/1.1\r\n\r\n".encode())
    if expected is None:
        with pytest.raises(PieceRefusedError) as caught:
            route(head)
        assert (HTTPStatus.NOT_FOUND, False) == (caught.value.status, caught.value.close)
    else:
        assert expected == route(head)


@pytest.mark.parametrize(
    ("version", "connection", "keep", "announce"),
    [
        ("1.1", "", True, False),
        ("1.1", "Connection: Close\r\n", False, False),
        ("1.1", "Connection: Upgrade, close\r\n", False, False),
        ("1.0", "", False, False),
        ("1.0", "Connection: keep-alive\r\n", True, True),
    ],
)
def test_a_connection_stays_open_as_its_client_wants(version: str, connection: str, keep: bool, announce: bool) -> None:
    head = parse(f"GET / HTTP/{version}\r\n{connection}\r\n".encode())
    assert (keep, announce) == (head.keep, head.announce)
    expected = {(True, False): [], (True, True): [b"keep-alive"], (False, False): [b"close"]}
    assert expected[keep, announce] == re.findall(rb"Connection: (\S+)", piece_head(0, 1, 1, head))


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"GET / HTTP/1.1\nHost: x\n\n", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 400),
        (b"GET  / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nA : a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nA: a\r\n b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nA: a\x00b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nA: a\rb\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nContent-Length: 4\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nContent-Length: +0\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"HEAD / HTTP/1.1\r\n\r\n", 405),
        (b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n", 405),
        (b"GET /" + b"a" * MAX_HEAD + b" HTTP/1.1\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nA: " + b" " * MAX_HEAD + b"\r\n\r\n", 431),
    ],
)
def test_another_head_is_refused_and_its_connection_ends(head: bytes, status: int) -> None:
    answer, _ = reply(head)
    assert isinstance(answer, bytes)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert b"\r\nConnection: close\r\n" in answer
    content = answer.partition(b"\r\n\r\n")[2]
    assert head.startswith(b"HEAD") == (content == b"")


def reply(received: bytes) -> tuple[object, int | None]:
    """The first request in the bytes or its refusal, and the length of the rest. ``None``: it is not complete."""
    try:
        found = split(received)
        if found is None:
            return None, None
        head = parse(found[0])
        return (head, route(head)), len(found[1])
    except PieceRefusedError as refusal:
        return refusal.answer(close=refusal.close), None


def reply_in_parts(received: bytes, size: int) -> tuple[object, int | None]:
    """The same, if the bytes arrive ``size`` at a time."""
    for end in range(size, len(received) + size, size):
        answer, rest = reply(received[:end])
        if answer is not None:
            return answer, None if rest is None else rest + len(received[end:])
    return None, None


PARTS = st.sampled_from(
    [
        b"GET /pieces/a/b HTTP/1.1\r\n",
        b"POST / HTTP/1.0\r\n",
        b"Range: bytes=0-9\r\n",
        b"Connection: close\r\n",
        b"Content-Length: 3\r\n",
        b": a\r\n",
        b"\r\n",
        b"\n",
        b"\r",
        b" ",
        b"A: " + b" " * 3000 + b"\r\n",
    ]
)


@given(
    st.one_of(st.binary(max_size=200), st.lists(PARTS | st.binary(max_size=5), max_size=12).map(b"".join)), st.data()
)
@example(GOOD + GOOD, None)
@example(b"GET / HTTP/1.1\r\n\r\n\n", None)
def test_the_answer_does_not_depend_on_the_parts(received: bytes, data: st.DataObject | None) -> None:
    whole = reply(received[:MAX_HEAD])
    if whole[1] is not None:
        whole = (whole[0], whole[1] + len(received[MAX_HEAD:]))
    sizes = [1, 7] if data is None else [data.draw(st.integers(1, 400))]
    for size in sizes:
        assert whole == reply_in_parts(received, size)


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nA: " + b" \t" * 3900 + b"b\x00\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 1300 + b"\x00\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"a" * 8000 + b"\r\n\r\n",
        b"GET " + b"http://" * 1100 + b" HTTP/1.1\r\n\r\n",
    ],
)
def test_no_head_takes_long(head: bytes) -> None:
    begun = time.process_time()
    for _ in range(10):
        reply(head)
    assert time.process_time() - begun < 1
