"""The front of the API port over real sockets: what it answers itself, what it leaves to aiohttp, and its limits."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pantala_protocol.sync import SyncRequest
from pantala_supernode.app import App, serving
from pantala_supernode.http import front as front_module
from testbed.certificates import ProcessAuthority
from tests.support.eventually import eventually
from tests.support.front_stage import HOST, LARGE, Served, get, post, read, serve, talk
from tests.support.supernode_lab import loopback


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serve() as made:
        yield made


async def test_hot_routes_are_served_without_aiohttp(served: Served) -> None:
    assert [(200, {"hot": "a"})] == await talk(served, post(b"a"))
    assert [(200, {"a": "1"})] == await talk(served, get("/query?a=1"))
    assert not served.cold
    assert {HOST} == {request.host for request in served.hot}


async def test_a_connection_serves_many_requests_in_their_order(served: Served) -> None:
    requests = [post(b"%d" % number) for number in range(50)]
    expected = [(200, {"hot": str(number)}) for number in range(50)]
    assert expected == await talk(served, b"".join(requests), answers=50)
    assert expected == await talk(served, *requests, answers=50)


async def test_a_request_may_arrive_in_any_parts(served: Served) -> None:
    data = post(b"a body")
    assert [(200, {"hot": "a body"})] == await talk(served, *(bytes([byte]) for byte in data), pause=0.0001)
    assert not served.cold


async def test_requests_behind_a_held_one_wait_for_its_answer(served: Served) -> None:
    asking = asyncio.create_task(talk(served, get("/hold") + post(b"next"), answers=2))
    await eventually(lambda: served.held)
    await asyncio.sleep(0.05)
    assert 1 == len(served.hot)
    served.held[0].set_result({"held": 1})
    assert [(200, {"held": 1}), (200, {"hot": "next"})] == await asking


async def test_a_held_request_is_cancelled_when_its_client_goes(served: Served) -> None:
    _, writer = await asyncio.open_connection(HOST, served.port)
    writer.write(get("/hold"))
    await eventually(lambda: served.held)
    writer.close()
    await eventually(served.held[0].cancelled)


async def test_aiohttp_gets_other_requests_and_the_rest_of_the_connection(served: Served) -> None:
    answers = await talk(served, post(b"hot") + get("/cold?a=1") + post(b"late"), answers=3)
    assert [(200, {"hot": "hot"}), (200, {"cold": "/cold"}), (200, {"cold": "/echo"})] == answers
    assert [("/cold", b""), ("/echo", b"late")] == served.cold


@pytest.mark.parametrize(
    "unusual",
    [
        post(b"x", "/echo", "X-Forwarded-For: a"),
        post(b"x", "/%65cho"),
        post(b"x" * 100_001),
        b"POST /echo HTTP/1.1\r\nHost: s\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
        b"PUT /echo HTTP/1.1\r\nHost: s\r\nContent-Length: 1\r\n\r\nx",
        get("/query?a=%41"),
        b"GET /query HTTP/1.1\r\nHost: s\r\nConnection: close\r\n\r\n",
    ],
)
async def test_unusual_requests_go_to_aiohttp(served: Served, unusual: bytes) -> None:
    ((_, body),) = await talk(served, unusual)
    assert "cold" in body
    assert not served.hot


@pytest.mark.parametrize(("body", "status", "reason"), [(b"missing", 404, "NotFound"), (b"bug", 500, "InternalError")])
async def test_errors_have_the_same_body_as_elsewhere(served: Served, body: bytes, status: int, reason: str) -> None:
    answers = await talk(served, post(body) + post(b"next"), answers=2)
    assert (status, reason) == (answers[0][0], answers[0][1]["error"]["reason"])
    assert (200, {"hot": "next"}) == answers[1]


async def test_silent_connections_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("_IDLE", 0.3), ("_HEAD", 0.1), ("BODY_TIME", 0.1), ("_SWEEP", 0.02)):
        monkeypatch.setattr(front_module, name, value)
    async with serve() as served:
        for begun in (b"", b"POST /ec", post(b"1234")[:-2]):
            reader, writer = await asyncio.open_connection(HOST, served.port)
            writer.write(begun)
            async with asyncio.timeout(5):
                with suppress(ConnectionError):
                    assert b"" == await reader.read()
            writer.close()
        assert not served.front.connections


@pytest.mark.parametrize("begun", [b"POST /ec", post(b"h" * 1000)[:-1000]])
async def test_h8_single_bytes_do_not_prolong_a_request(monkeypatch: pytest.MonkeyPatch, begun: bytes) -> None:
    for name, value in (("_HEAD", 0.5), ("BODY_TIME", 0.5), ("_SWEEP", 0.02)):
        monkeypatch.setattr(front_module, name, value)
    async with serve() as served:
        reader, writer = await asyncio.open_connection(HOST, served.port)
        writer.write(begun)

        async def drip() -> None:
            while True:
                writer.write(b"h")
                await asyncio.sleep(0.05)

        dripping = asyncio.create_task(drip())
        with suppress(ConnectionError):
            async with asyncio.timeout(5):
                await reader.read()
        dripping.cancel()
        writer.close()
        await eventually(lambda: not served.front.connections)


async def test_h8_a_refused_request_with_an_unread_body_gets_its_answer(served: Served) -> None:
    body = b"x" * 60_000
    reader, writer = await asyncio.open_connection(HOST, served.port)
    writer.write(post(body, path="/closed")[:-50_000])
    answer = await read(reader)
    writer.write(body[:50_000])
    await writer.drain()
    assert 401 == answer[0]
    assert b"" == await reader.read()
    writer.close()


async def test_a_client_that_reads_nothing_gets_no_further_answers(served: Served) -> None:
    _, writer = await asyncio.open_connection(HOST, served.port)
    with suppress(TimeoutError):
        for _ in range(1000):
            writer.write(post(b"x" * 90_000))
            async with asyncio.timeout(1):
                await writer.drain()
        pytest.fail("the front read all requests")
    writer.transport.abort()


@pytest.mark.parametrize("target", ["/large", "/cold/large"])
@pytest.mark.parametrize("secured", [False, True], ids=["plain", "tls"])
async def test_h2_unread_answers_of_one_client_take_limited_memory(target: str, *, secured: bool) -> None:
    """With TLS, asyncio hands a whole answer to the socket's transport, and counts nothing of it as unread."""
    authority = ProcessAuthority()
    server, client = (authority.contexts(name) for name in ("s.supernode.pantala", "n.peer.pantala"))
    async with serve(server if secured else None) as served:
        how: dict[str, Any] = {"ssl": client.client, "server_hostname": "s.supernode.pantala"} if secured else {}
        opened: list[Any] = [await asyncio.open_connection(HOST, served.port, limit=1000, **how) for _ in range(6)]
        for _, writer in opened:
            writer.write(get(target))
        await eventually(lambda: all(reader._buffer or reader.exception() for reader, _ in opened))
        assert 20_000_000 < sum(served.limits._taken.values()) <= 32 << 20
        lost = 0
        for reader, writer in opened:
            answer = None
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                answer = await read(reader)
            lost += answer is None or answer[0] != 200
            assert answer is None or answer[0] != 200 or {"text": LARGE} == answer[1]
            writer.close()
        assert 0 < lost < 6
        await eventually(lambda: not served.limits._taken)


async def test_at_the_end_a_large_answer_arrives_whole() -> None:
    async with serve() as served:
        reader, writer = await asyncio.open_connection(HOST, served.port, limit=1000)
        writer.write(get("/large"))
        await eventually(lambda: served.limits._taken)
        reading = asyncio.create_task(read(reader))
    assert (200, {"text": LARGE}) == await reading
    writer.close()


async def test_at_the_end_held_requests_are_answered_and_connections_closed() -> None:
    async with serve() as served:
        reader, writer = await asyncio.open_connection(HOST, served.port)
        idle_reader, idle_writer = await asyncio.open_connection(HOST, served.port)
        writer.write(get("/hold"))
        await eventually(lambda: served.held)
        asyncio.get_running_loop().call_later(0.2, served.held[0].set_result, {"held": 1})
    assert (200, {"held": 1}) == await read(reader)
    assert b"" == await reader.read()
    assert b"" == await idle_reader.read()
    writer.close()
    idle_writer.close()


GOOD = st.sampled_from([post(b"a"), post(b"x" * 3000), get("/query?a=1"), get("/cold"), post(b"b", "/cold")])
BAD = st.sampled_from(
    [
        b"GET ", b"\r\n\r\n", post(b"abc")[:-1], b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n\r\n",
        b"\0", b"0\r\n\r\n", post(b"victim"), b"POST /echo HTTP/1.1\r\nHost: s\r\nContent-Length: 4\r\n",
    ]
)  # fmt: skip
FEW = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@FEW
@given(st.lists(GOOD, min_size=1, max_size=8).map(b"".join), st.integers(1, 400))
def test_good_requests_get_the_same_answers_in_any_parts(data: bytes, cut: int) -> None:
    async def both() -> None:
        async with serve() as served:
            expected = data.count(b" HTTP/1.1\r\n")
            whole = await talk(served, data, answers=expected)
            assert whole == await talk(served, data[:cut], data[cut:], answers=expected, pause=0.002)

    asyncio.run(both())


@FEW
@given(st.lists(st.one_of(GOOD, BAD), min_size=1, max_size=8))
def test_no_bytes_make_an_internal_error_or_stop_the_front(parts: list[bytes]) -> None:
    async def send() -> None:
        async with serve() as served:
            reader, writer = await asyncio.open_connection(HOST, served.port)
            received = b""
            with suppress(ConnectionError, TimeoutError):
                for part in parts:
                    writer.write(part)
                    await asyncio.sleep(0.001)
                async with asyncio.timeout(0.1):
                    while chunk := await reader.read(65536):
                        received += chunk
            writer.close()
            assert b"HTTP/1.1 500" not in received
            assert [(200, {"hot": "a"})] == await talk(served, post(b"a"))

    asyncio.run(send())


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[App]:
    async with serving(loopback(tmp_path / "data", dragonfly=True)) as made:
        yield made


def counter(app: App, name: str) -> float:
    return app.metrics.registry.get_sample_value(name) or 0.0


async def test_the_exchange_and_its_metrics_are_served_at_the_front(app: App) -> None:
    body = msgspec.json.encode(SyncRequest("n1", "boot", 1, inventory={}))
    reader, writer = await asyncio.open_connection(HOST, app.settings.listen.port)
    writer.write(post(body, "/api/v1/sync"))
    status, answer = await read(reader)
    assert (200, 1) == (status, answer["seq"])
    assert 1 == len(app.front.connections)
    assert 1 == counter(app, "pantala_exchanges_total")
    writer.write(post(b"{", "/api/v1/sync"))
    status, answer = await read(reader)
    assert (400, "BadRequest") == (status, answer["error"]["reason"])
    writer.write(get("/peer/task?srcCid=a&taskId=b&status=900"))
    status, answer = await read(reader)
    assert (200, 501) == (status, answer["code"])
    writer.close()
