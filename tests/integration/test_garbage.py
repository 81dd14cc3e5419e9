"""Garbage on every route of every port of a supernode: it answers an error, lives, and leaves the disk unchanged.

The tests use raw sockets, because HTTP clients refuse to send most of this.
"""

import asyncio
import gzip
import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.http_parser import DeflateBuffer

from pantala_protocol import task_id
from pantala_supernode.app import App, serving
from pantala_supernode.http import operations
from tests.support.supernode_lab import loopback

SECRET = "a-file-beside-the-volume"
TASK = task_id.compute("http://origin.invalid/f")
HUGE = "9" * 400


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[App]:
    (tmp_path / "secret").write_text(SECRET)
    settings = loopback(tmp_path / "data", dragonfly=True)
    async with serving(settings) as served:
        while statuses(await send(settings.listen.port, request("GET", "/readyz"))) != [200]:
            pass
        yield served


async def send(port: int, data: bytes, *, to_the_end: bool = False) -> bytes:
    """The server's answer to ``data``; or all its bytes until it closes or is silent for seconds."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = b""
    try:
        writer.write(data)
        async with asyncio.timeout(5):
            while part := await reader.read(65536):
                answer += part
                if _whole(answer) and not to_the_end:
                    break
    except (TimeoutError, ConnectionError):
        pass
    finally:
        writer.close()
    return answer


def _whole(answer: bytes) -> bool:
    head, end, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
    return bool(end) and length is not None and len(body) >= int(length[1])


def statuses(answer: bytes) -> list[int]:
    """The status of each answer."""
    return [int(found) for found in re.findall(rb"^HTTP/1\.[01] (\d{3})", answer, re.MULTILINE)]


def is_error(answer: bytes) -> bool:
    """True for an error. Dragonfly's clients get it as a code in an answer with status 200."""
    (status,) = statuses(answer)
    if status != 200:
        return 400 <= status < 500 or status == 503
    return int(json.loads(answer.partition(b"\r\n\r\n")[2])["code"]) in (501, 502)


def request(method: str, target: str, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def routes(application: web.Application) -> list[tuple[str, str]]:
    """Method and path of all mounted routes."""
    found = [
        (route.method, route.resource.canonical) for route in application.router.routes() if route.resource is not None
    ]
    return sorted(
        {(method, path) for method, path in found if method not in ("HEAD", "OPTIONS") and "v[0-9" not in path}
    )


BODIES = [
    b"",
    b"{",
    b"null",
    b"[]",
    b'"text"',
    b"\xff\xfe\x00",
    b"[" * 100_000,
    b'{"a":' * 20_000,
    b'{"revision": 1e999, "seq": NaN, "port": -1}',
    b'{"revision": %s, "seq": %s, "port": %s}' % ((HUGE.encode(),) * 3),
    b'{"rawUrl": 5, "taskUrl": [], "cid": {}, "ip": null, "port": "x", "path": "../../secret"}',
    b'{"rawURL": "file:///etc/passwd", "taskURL": "file:///etc/passwd", "cID": "c", "path": "/x", "peerID": "p"}',
    b'{"type": "file", "url": "http://origin.invalid/\\u0000"}',
    b'{"IP": "999.1.1.1", "hostName": "../../secret", "port": 70000}',
]
NAMES = [
    "..%2f..%2fsecret",
    "%2e%2e",
    "%00",
    "a" * 7000,
    "-1",
    HUGE,
    "%ff%fe",
    "%zz",
    TASK.upper(),
    "/",
    "%2fetc%2fpasswd",
]
RANGES = [
    "bytes=-1", "bytes=5-1", f"bytes=0-{HUGE}", f"bytes={HUGE}-", "bytes=0-1,5-9", "bytes=x-y", "lines=1-2", "bytes=--",
]  # fmt: skip
QUERIES = [
    "taskId=..%2f..%2fsecret&cid=%00&range=-1--5&result=501&status=701",
    f"taskId={TASK}&srcCid=c&dstCid=d&range=0-{HUGE}&result={HUGE}&status=-1",
    f"taskId={TASK}&taskId=x&cid=c&pieceRange=5-1&pageNum=-1&pageSize={HUGE}&since=-1&wait=nan",
    "%00=%ff&&==&pageSize=1e9&sortKey=__class__&wait=1e400",
]


def garbage(method: str, path: str) -> Iterator[tuple[bytes, bool]]:
    """Requests, and whether they must be refused. A query that a route does not know has no effect."""
    named = path.replace("{task_id}", TASK).replace("{id}", TASK)
    plain = re.sub(r"\{[^}]*\}", "x", named)
    if method in ("POST", "PUT"):
        yield from ((request(method, plain, body), path not in UNREAD) for body in BODIES)
        yield request(method, plain, b"{}", "Content-Encoding: gzip"), path not in UNREAD
    if "{" in path:
        for name in NAMES:
            yield request(method, re.sub(r"\{[^}]*\}", name.replace("\\", ""), path), b"{}"), True
        yield from ((request(method, plain, b"", f"Range: {text}"), True) for text in RANGES)
    yield from ((request(method, f"{plain}?{query}", b"{}"), False) for query in QUERIES)


UNREAD = ("/task/metrics", "/peer/heartbeat", "/peer/network")
"""Routes that accept any body and drop it."""


async def test_every_route_survives_garbage(app: App, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = tree(tmp_path)
    answered = 0
    for application, port in ((app.api, app.settings.listen.port), (None, app.settings.piece_listen.port)):
        mounted = (
            routes(application)
            if application is not None
            else [("GET", "/pieces/{task_id}/{generation}"), ("GET", "/wrapped/{ticket}/{task_id}/{generation}")]
        )
        for method, path in mounted:
            for data, refused in garbage(method, path):
                answer = await send(port, data)
                shown = (method, path, data[:300], answer[:300])
                assert 1 == len(statuses(answer)), shown
                assert not refused or is_error(answer), shown
                assert not [status for status in statuses(answer) if status == 500], shown
                assert SECRET.encode() not in answer
                answered += 1
    assert answered > 500
    assert [200] == statuses(await send(app.settings.listen.port, request("GET", "/readyz")))
    assert before == tree(tmp_path)
    assert "because of a bug" not in capsys.readouterr().err


def tree(root: Path) -> dict[str, bytes]:
    """All files below a directory, with their content."""
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


VICTIM = b"GET /peers HTTP/1.1\r\nHost: x\r\n\r\n"
"""A request hidden in the body of another. It must not be handled."""

FRAMES = {
    "length and chunks": b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": b"Content-Length: 0\r\nContent-Length: 40\r\n\r\n",
    "two lengths in one": b"Content-Length: 0, 40\r\n\r\n",
    "a negative length": b"Content-Length: -1\r\n\r\n",
    "a length with a sign": b"Content-Length: +0\r\n\r\n",
    "a length with an underscore": b"Content-Length: 1_0\r\n\r\n",
    "a huge length": b"Content-Length: " + HUGE.encode() + b"\r\n\r\n",
    "chunks that are not last": b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "a strange encoding": b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "an encoding with a blank": b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "a negative chunk": b"Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
    "a huge chunk": b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 40 + b"\r\n\r\n",
    "a folded header": b"Content-Length: 0\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "a zero in a header": b"X: a\x00b\r\n\r\n",
    "a bare line feed in a header": b"X: a\nContent-Length: 40\r\n\r\n",
    "a header without a name": b": a\r\n\r\n",
    "a huge header": b"X: " + b"a" * 100_000 + b"\r\n\r\n",
}
"""The rest of a request after ``POST /peers HTTP/1.1`` and ``Host``. Two servers may disagree on its end."""

LINES = {
    "a huge target": b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "another protocol": b"GET /peers HTTP/9.9\r\nHost: x\r\n\r\n",
    "no protocol": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "a target with a line feed": b"GET /peers\n HTTP/1.1\r\nHost: x\r\n\r\n",
}

SMUGGLERS = {name: b"POST /peers HTTP/1.1\r\nHost: x\r\n" + frame for name, frame in FRAMES.items()} | LINES


@pytest.mark.parametrize("port", ["listen", "piece_listen"])
@pytest.mark.parametrize("frame", SMUGGLERS)
async def test_no_request_is_smuggled_in_another(app: App, frame: str, port: str) -> None:
    """An ambiguous request is refused, and its connection closed."""
    number = getattr(app.settings, port).port
    answer = await send(number, SMUGGLERS[frame] + VICTIM, to_the_end=True)
    assert not [status for status in statuses(answer) if status < 400 or status == 500], answer[:500]
    assert 1 >= len(statuses(answer)), answer[:500]
    good = statuses(await send(app.settings.listen.port, request("GET", "/readyz")))
    assert [200] == good


async def test_a_client_with_half_a_request_delays_no_other(app: App) -> None:
    port = app.settings.listen.port
    silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(50)]
    for _, writer in silent:
        writer.write(b"POST /api/v1/sync HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
    try:
        assert [200] == statuses(await send(port, request("GET", "/readyz")))
    finally:
        for _, writer in silent:
            writer.close()


@pytest.mark.parametrize("target", ["/api/v1/sync", "/readyz", "/peer/registry", "/peers", "/task/metrics"])
async def test_a_compressed_body_is_not_decompressed(app: App, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """To decompress a small body may take seconds."""
    inflated = []

    def feed_data(_: DeflateBuffer, chunk: bytes, *_size: int) -> bool:
        inflated.append(chunk)
        return False

    monkeypatch.setattr(DeflateBuffer, "feed_data", feed_data)
    answer = await send(
        app.settings.listen.port, request("POST", target, gzip.compress(b"{}"), "Content-Encoding: gzip")
    )
    assert is_error(answer), answer[:500]
    assert [] == inflated


@pytest.mark.parametrize("framing", ["Content-Length: 8000000", "Transfer-Encoding: chunked"])
@pytest.mark.parametrize("target", ["/peers", "/tasks", "/preheats", "/peer/registry"])
async def test_a_client_without_a_token_cannot_send_a_large_body(app: App, target: str, framing: str) -> None:
    head = f"POST {target} HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n".encode()
    body = b"7a1200\r\n" * framing.startswith("Transfer") + b" " * 2_000_000
    answer = await send(app.settings.listen.port, head + body)
    assert is_error(answer), answer[:500]


async def test_a_body_that_never_ends_is_given_up(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "BODY_TIME", 0.1)
    for target in ("/peers", "/api/v1/statement", "/task/metrics"):
        method = "PUT" if target.endswith("statement") else "POST"
        answer = await send(app.settings.listen.port, request(method, target, b"{" * 9)[:-8])
        assert is_error(answer), answer[:500]
        assert b"did not arrive" in answer
