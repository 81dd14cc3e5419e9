"""The server of health and metrics: its answers, and what it logs of requests."""

import asyncio
import contextlib
import errno
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from prometheus_client.core import CounterMetricFamily

from pantala_process import health, http, logs, metrics
from pantala_process.entrance.server import serving
from pantala_process.http import TooLargeError
from pantala_process.settings import ListenAddress


@contextlib.asynccontextmanager
async def answered(path: str, *reasons: str) -> AsyncIterator[aiohttp.ClientResponse]:
    """The answer of a process that is not ready for these reasons."""
    registry = metrics.new_registry("example")
    registry.register(metrics.Readings(lambda: [CounterMetricFamily("pantala_sent_bytes", "Sent.", 7)]))
    async with (
        health.serving(ListenAddress("127.0.0.1", 0), registry, ready=lambda: reasons) as port,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client,
        client.get(path) as response,
    ):
        yield response


async def get(path: str, *reasons: str) -> tuple[int, str]:
    async with answered(path, *reasons) as response:
        return response.status, (await http.read_bounded(response, 1 << 20)).decode()


async def test_a_process_is_ready_or_reports_why_not() -> None:
    assert (200, {"status": "ok", "reasons": []}) == _json(await get("/readyz"))
    status, body = _json(await get("/readyz", "no list", "no supernode"))
    assert (503, "unavailable", ["no list", "no supernode"]) == (status, body["status"], body["reasons"])
    assert {"reason": "NotReady", "message": "no list; no supernode"} == body["error"]
    assert 200 == (await get("/healthz", "no list"))[0]


async def test_metrics_carry_the_version_and_the_figures_of_now() -> None:
    status, text = await get("/metrics")
    assert 200 == status
    assert 'pantala_build_info{process="example",version=' in text
    assert "process_resident_memory_bytes" in text
    assert "pantala_sent_bytes_total 7.0" in text


async def test_a_server_whose_thread_cannot_begin_ends_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted() -> asyncio.AbstractEventLoop:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(asyncio.events, "new_event_loop", exhausted)
    with pytest.raises(OSError, match="Too many open files"):
        async with asyncio.timeout(5):
            await get("/readyz")


async def test_metrics_of_a_process_that_is_stuck_are_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_PATIENCE", 0.05)
    monkeypatch.setattr(metrics, "metrics_response", lambda _: time.sleep(0.3))
    status, text = await get("/metrics")
    assert 503 == status
    assert {"reason": "NotAlive", "message": "the process has not answered for 0.05 s"} == json.loads(text)["error"]


async def test_a_body_is_read_up_to_its_limit() -> None:
    async with answered("/readyz") as response:
        with pytest.raises(TooLargeError, match="larger than 10 bytes"):
            await http.read_bounded(response, 10)


def test_tokens_are_read_from_files(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("secret\n")
    assert ({}, {"Authorization": "Bearer secret"}) == (http.bearer(None), http.bearer(file))
    for content in (None, "schlüssel"):
        file.unlink(missing_ok=True)
        if content is not None:
            file.write_text(content)
        with pytest.raises(OSError, match="token cannot be read"):
            http.bearer(file)


def test_errors_have_one_shape() -> None:
    body = http.error_response(404, "NotFound", "it is not here").body
    assert isinstance(body, bytes)
    detail = http.error_detail(body)
    assert detail is not None
    assert ("NotFound", "it is not here") == (detail.reason, detail.message)
    assert None is http.error_detail(b"<html>")


def _json(answer: tuple[int, str]) -> tuple[int, dict[str, object]]:
    return answer[0], json.loads(answer[1])


def test_a_client_cannot_fill_the_log_with_one_event() -> None:
    now = 0.0
    flood = logs.FloodFilter(lambda: now)

    def passes(event: str) -> dict[str, object] | None:
        record = logging.LogRecord("x", logging.WARNING, "", 0, {"event": event}, (), None)
        return record.msg if flood.filter(record) else None  # type: ignore[return-value]

    assert 1000 == sum(passes("refused") is not None for _ in range(5000))
    assert {"event": "other"} == passes("other")
    now = 1.0
    assert {"event": "refused", "left_out": 4000} == passes("refused")
    assert 19 == sum(passes("refused") is not None for _ in range(100))


def test_events_without_end_take_limited_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The counts of all events start again."""
    monkeypatch.setattr(logs, "_BURST", 1)
    monkeypatch.setattr(logs, "_EVENTS", 3)
    flood = logs.FloodFilter(lambda: 0.0)
    records = [logging.LogRecord("x", logging.WARNING, "", 0, event, (), None) for event in "aabcda"]
    assert [True, False, True, True, True, True] == [flood.filter(record) for record in records]


def test_a_log_line_has_no_character_that_controls_a_terminal() -> None:
    program = (
        "import structlog; from pantala_process import logs; logs.configure(); "
        r"structlog.get_logger('x').info('文', peer='a\x1b[31m\x9b\u202e\u2028\n')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, timeout=60)
    line = done.stderr.decode()
    assert "文" in line
    assert line.removesuffix("\n").isprintable()
    assert "a\x1b[31m\x9b\u202e\u2028\n" == json.loads(line)["peer"]


SECRET = "s3cr3t"


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """The port of a server with one route, which fails."""

    async def fail(_: web.Request) -> web.Response:
        raise RuntimeError("our own bug")

    logs.hide_invalid_requests()
    app = web.Application()
    app.router.add_get("/fault", fail)
    async with serving(app, ListenAddress("127.0.0.1", 0), grace=1, most=64) as port:
        yield port


async def send(port: int, request: str) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request.encode())
    answer = await asyncio.wait_for(reader.readline(), 5)
    writer.close()
    return answer


@pytest.mark.parametrize(
    "request_text",
    [
        f"GET / HTTP/1.1\r\nHost: x\r\nAuthorization : Bearer {SECRET}\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {SECRET}\x01\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {SECRET}{'a' * 9000}\r\n\r\n",
    ],
)
async def test_an_invalid_request_is_logged_in_one_line_without_its_text(
    port: int, request_text: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert b" 400 " in await send(port, request_text)
    (record,) = [record for record in caplog.records if record.name == "aiohttp.server"]
    assert (logging.INFO, None) == (record.levelno, record.exc_info)
    assert record.getMessage().startswith("rejected a request that is not valid HTTP (")
    assert SECRET not in caplog.text


async def test_our_own_bug_keeps_its_traceback(port: int, caplog: pytest.LogCaptureFixture) -> None:
    assert b" 500 " in await send(port, "GET /fault HTTP/1.1\r\nHost: x\r\n\r\n")
    (record,) = [record for record in caplog.records if record.name == "aiohttp.server"]
    assert (logging.ERROR, True) == (record.levelno, record.exc_info is not None)
