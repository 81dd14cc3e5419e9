"""Clients that connect and send nothing, or very little, do not keep others out."""

import asyncio
import json
import re
import resource
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest
from aiohttp import web

from pantala_process import health
from pantala_process.entrance import acceptor as acceptor_module
from pantala_process.entrance.connections import ConnectionTable, FullError
from pantala_process.entrance.server import serving
from pantala_process.settings import ListenAddress
from tests.support.eventually import eventually

LOCAL = ListenAddress("127.0.0.1", 0)
REQUEST = b"GET /name HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(autouse=True)
def files() -> Iterator[None]:
    """Restore the limit of open files after each test."""
    former = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, former)


@asynccontextmanager
async def server(most: int) -> AsyncIterator[int]:
    async def name(_: web.Request) -> web.Response:
        return web.Response(text="here")

    app = web.Application()
    app.router.add_get("/name", name)
    async with serving(app, LOCAL, grace=1.0, most=most) as port:
        yield port


class Sockets:
    """Raw connections to a port, which are closed at the end."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.open: list[socket.socket] = []

    def connect(self, count: int, sent: bytes = b"", source: str = "127.0.0.1") -> list[socket.socket]:
        made = []
        for _ in range(count):
            made.append(socket.create_connection(("127.0.0.1", self.port), timeout=10, source_address=(source, 0)))
            made[-1].setblocking(False)
            if sent:
                made[-1].send(sent)
        self.open += made
        return made

    def close(self) -> None:
        for each in self.open:
            each.close()


async def ask(port: int, path: str = "/name", within: float = 5.0) -> tuple[int, bytes]:
    async with asyncio.timeout(within):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
    return int(answer[9:12]), answer.partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize(
    ("times", "sent", "source"), [(30, b"", "127.0.0.1"), (15, REQUEST, "127.0.0.2")], ids=["silent", "with requests"]
)
async def test_h8_connections_of_one_address_leave_room_for_others(times: int, sent: bytes, source: str) -> None:
    async with server(100) as port, AsyncExitStack() as stack:
        sockets = Sockets(port)
        stack.callback(sockets.close)
        for _ in range(times):
            sockets.connect(10, sent, source=source)
            await asyncio.sleep(0.05)
        assert (200, b"here") == await ask(port)


async def test_h8_a_connection_without_a_complete_head_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acceptor_module, "FIRST_REQUEST", 0.5)
    monkeypatch.setattr(acceptor_module, "_LOOK", 0.1)
    async with server(100) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        begun = time.monotonic()
        writer.write(b"GET /name HTTP/1.1\r\nX: ")
        ended = asyncio.create_task(reader.read())
        async with asyncio.timeout(10):
            while not ended.done():
                writer.write(b"x")
                await asyncio.sleep(0.05)
        ended.exception()
        assert 0.4 < time.monotonic() - begun
        writer.close()
        kept_reader, kept = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(3):  # a connection that has sent a request stays between two requests
            kept.write(REQUEST)
            assert b"200 OK" in await kept_reader.readuntil(b"here")
            await asyncio.sleep(0.4)
        kept.close()


async def test_h8_health_answers_while_sockets_fill_its_port_and_tells_a_stuck_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reasons: list[str] = []
    async with health.serving(LOCAL, None, ready=lambda: reasons) as port, AsyncExitStack() as stack:
        sockets = Sockets(port)
        stack.callback(sockets.close)
        for _ in range(30):
            sockets.connect(10)
            await asyncio.sleep(0.01)
        assert 200 == (await ask(port, "/healthz", within=1.0))[0]
        reasons.append("it reads its volume")
        status, body = await ask(port, "/readyz")
        assert (503, ["it reads its volume"]) == (status, json.loads(body)["reasons"])
        assert 404 == (await ask(port, "/metrics"))[0]
        monkeypatch.setattr(health, "_PATIENCE", 0.2)
        stuck = socket.create_connection(("127.0.0.1", port), timeout=10)
        stuck.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = b""
        while b"\r\n\r\n" not in answer:  # the event loop of the process does not run meanwhile
            answer += stuck.recv(65536)
        stuck.close()
        assert b"503" in answer.splitlines()[0]


async def test_f20_a_server_without_files_accepts_again_and_logs_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    async with server(8192) as port, AsyncExitStack() as stack:
        used = len(list(Path("/proc/self/fd").iterdir()))
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + 40, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        sockets = Sockets(port)
        stack.callback(sockets.close)
        with suppress(OSError):
            for _ in range(100):
                sockets.connect(1)
                if len(sockets.open) % 8 == 0:
                    await asyncio.sleep(0.01)
        await asyncio.sleep(2.5)
        for each in sockets.open:
            each.close()

        async def answers() -> bool:
            with suppress(OSError, TimeoutError):
                return (await ask(port)) == (200, b"here")
            return False

        await eventually(answers)
    assert 1 == capsys.readouterr().out.count("cannot accept connections")


def test_h8_the_oldest_silent_connection_makes_room() -> None:
    table: ConnectionTable[int] = ConnectionTable(3)
    assert None is table.dispensable("a")
    for key, address in ((1, "a"), (2, "b"), (3, "a")):
        table.add(key, address)
    assert 1 == table.dispensable("c")
    table.served(1)
    assert 3 == table.dispensable("c") or 2 == table.dispensable("c")
    table.served(2)
    table.served(3)
    with pytest.raises(FullError):
        table.dispensable("c")
    table.remove(2)
    table.remove(2)
    assert None is table.dispensable("c")


def test_h8_one_address_never_takes_all_connections_of_a_small_port() -> None:
    table: ConnectionTable[int] = ConnectionTable(64)
    for key in range(16):
        assert None is table.dispensable("a")
        table.add(key, "a")
        table.served(key)
    with pytest.raises(FullError):
        table.dispensable("a")
    assert None is table.dispensable("b")


async def test_f16_a_process_may_end_while_its_health_port_opens() -> None:
    """The thread of the port ends without an error."""

    async def run() -> None:
        async with health.serving(LOCAL, None, ready=tuple):
            await asyncio.Event().wait()

    for turns in range(30):
        process = asyncio.create_task(run())
        for _ in range(turns % 10):
            await asyncio.sleep(0)
        process.cancel()
        with suppress(asyncio.CancelledError):
            await process
    assert "health" not in {thread.name for thread in threading.enumerate()}


async def test_a_health_port_that_cannot_open_ends_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> None:
        raise OSError("no more sockets")

    monkeypatch.setattr(acceptor_module.Acceptor, "start", broken)
    with pytest.raises(OSError, match="no more sockets"):
        async with health.serving(LOCAL, None, ready=tuple):
            pass


async def test_h8_a_finished_probe_gives_its_place_back() -> None:
    async with health.serving(LOCAL, None, ready=tuple) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(10):
            assert (await reader.read()).startswith(b"HTTP/1.1 200")
        writer.close()


async def test_a_client_that_does_not_read_its_answer_loses_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acceptor_module, "_UNREAD", 0.5)
    ended = asyncio.Event()

    async def large(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(bytes(1 << 20))
        finally:
            ended.set()

    app = web.Application()
    app.router.add_get("/name", large)
    async with serving(app, LOCAL, grace=0.1, most=16) as port:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            client.sendall(REQUEST)
            async with asyncio.timeout(20):
                await ended.wait()


@pytest.mark.parametrize("sent", [b"GET /healthz", b"POST /healthz", b"GET /missing"])
async def test_clients_that_stay_do_not_keep_the_probes_out(sent: bytes) -> None:
    """Five clients use all 64 connections, and repeat their requests or never end a body."""
    request = sent + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n" + b"123456789" * sent.startswith(b"GET")
    async with health.serving(LOCAL, None, ready=tuple) as port:
        sockets = Sockets(port)
        try:
            for number in range(2, 7):
                sockets.connect(16, request, f"127.0.0.{number}")
            await asyncio.sleep(0.3)
            assert 200 == (await ask(port, "/healthz", within=1.0))[0]
        finally:
            sockets.close()


def test_all_servers_use_the_runner_that_does_not_decompress_bodies() -> None:
    root = Path(__file__).parents[2]
    users = [
        path.relative_to(root).as_posix()
        for name in ("process", "supernode", "peer", "operator", "cli")
        for path in (root / name).rglob("*.py")
        if re.search(r"AppRunner\(|run_app\(|ServerRunner\(", path.read_text())
    ]
    assert ["process/pantala_process/entrance/server.py"] == users
