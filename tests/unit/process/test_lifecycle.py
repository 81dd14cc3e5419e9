"""Parts of every process: its settings, its life, shared calls, probes and logs."""

import asyncio
import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from prometheus_client.core import CounterMetricFamily

from pantala_process import backoff, health, http, lifecycle, logs, metrics, settings
from pantala_process.backoff import Backoff
from pantala_process.entrance.server import serving
from pantala_process.flight import SingleFlight
from pantala_process.http import TooLargeError
from pantala_process.lifecycle import Stop
from pantala_process.settings import ListenAddress, SettingsError, flag, names_loopback, switch


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_process_with_0(number: signal.Signals) -> None:
    async def life(stop: Stop) -> None:
        os.kill(os.getpid(), number)
        await stop.asked.wait()
        assert (number == signal.SIGINT) == stop.at_once.is_set()
        os.kill(os.getpid(), signal.SIGTERM)
        await stop.at_once.wait()

    with pytest.raises(SystemExit) as ended:
        lifecycle.run("example", life, failures=())
    assert 0 == ended.value.code


def test_a_failure_ends_the_process_with_1() -> None:
    async def life(_stop: Stop) -> None:
        raise OSError("the disk is gone")

    with pytest.raises(SystemExit) as ended:
        lifecycle.run("example", life, failures=(OSError,))
    assert 1 == ended.value.code


def test_wrong_settings_end_the_process_with_2_and_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def parse(_arguments: Sequence[str], _environment: Mapping[str, str]) -> None:
        raise SettingsError("--data is missing.")

    with pytest.raises(SystemExit) as ended:
        lifecycle.settings("example", parse)
    assert 2 == ended.value.code
    assert "example: --data is missing.\n" == capsys.readouterr().err


async def test_work_is_cancelled_when_the_stop_is_set_and_its_error_is_raised() -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().call_soon(stop.set)
    assert None is await lifecycle.until(stop, asyncio.sleep(60, "late"))
    assert "done" == await lifecycle.until(asyncio.Event(), asyncio.sleep(0, "done"))

    async def fail() -> None:
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        await lifecycle.until(asyncio.Event(), fail())


def test_pauses_double_up_to_a_limit_and_start_again() -> None:
    assert [1, 1, 2, 4, 8, 8] == [backoff.doubled(1, 8, failures) for failures in (0, 1, 2, 3, 4, 10_000)]
    pauses = Backoff(1, 8)
    for expected in (1, 2, 4, 8, 8):
        assert expected / 2 <= pauses.next() <= expected
    pauses.reset()
    assert pauses.next() <= 1


class Work:
    def __init__(self) -> None:
        self.calls = 0
        self.cancelled = 0
        self.go_on = asyncio.Event()

    async def __call__(self) -> int:
        self.calls += 1
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return self.calls


async def test_concurrent_callers_share_one_call() -> None:
    work, flight = Work(), SingleFlight[str, int]()
    callers = [asyncio.create_task(flight.share("key", work)) for _ in range(3)]
    await asyncio.sleep(0)
    work.go_on.set()
    assert [1, 1, 1] == await asyncio.gather(*callers)
    assert 2 == await flight.share("key", work)


async def test_all_callers_get_the_error_and_the_next_caller_tries_again() -> None:
    async def fail() -> int:
        await asyncio.sleep(0)
        raise ValueError("no")

    flight = SingleFlight[str, int]()
    results = await asyncio.gather(*(flight.share("key", fail) for _ in range(2)), return_exceptions=True)
    assert ["no", "no"] == [str(result) for result in results]
    work = Work()
    work.go_on.set()
    assert 1 == await flight.share("key", work)


@pytest.mark.parametrize("stop_unattended", [False, True])
async def test_a_cancelled_caller_leaves_alone(stop_unattended: bool) -> None:
    work, flight = Work(), SingleFlight[str, int](stop_unattended=stop_unattended)
    first, second = (asyncio.create_task(flight.share("key", work)) for _ in range(2))
    await asyncio.sleep(0.01)
    first.cancel()
    await asyncio.sleep(0.01)
    assert 0 == work.cancelled
    second.cancel()
    await asyncio.gather(first, second, return_exceptions=True)
    third = asyncio.create_task(flight.share("key", work))
    await asyncio.sleep(0.01)
    work.go_on.set()
    assert (2 if stop_unattended else 1) == await third
    assert int(stop_unattended) == work.cancelled


async def test_close_cancels_all_calls() -> None:
    work, flight = Work(), SingleFlight[str, int]()
    caller = asyncio.create_task(flight.share("key", work))
    await asyncio.sleep(0.01)
    await flight.close()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert 1 == work.cancelled


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
        record = logging.LogRecord("x", logging.WARNING, "", 0, {"event": event}, (), None)  # type: ignore[arg-type]
        return record.msg if flood.filter(record) else None  # type: ignore[return-value]

    assert 1000 == sum(passes("refused") is not None for _ in range(5000))
    assert {"event": "other"} == passes("other")
    now = 1.0
    assert {"event": "refused", "left_out": 4000} == passes("refused")
    assert 19 == sum(passes("refused") is not None for _ in range(100))


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


@dataclass(frozen=True)
class Example:
    supernode_url: str = flag(settings.http_url, "URL", "where the supernode is")
    downloads: int = flag(settings.whole(1, 64, "pieces"), "N", "pieces at once", default=4)
    loud: bool = switch("log more")


def read(arguments: list[str], environment: dict[str, str] | None = None) -> Example:
    flags = settings.flags(Example)
    return Example(**settings.parse(flags, arguments, environment or {}, program="example", description="Tests."))


def test_a_flag_wins_over_a_variable_which_wins_over_the_default() -> None:
    environment = {"PANTALA_SUPERNODE_URL": "http://variable", "PANTALA_DOWNLOADS": "5", "PANTALA_LOUD": "True"}
    assert Example("http://variable", 5, loud=True) == read([], environment)
    assert Example("http://flag", 6, loud=True) == read(
        ["--supernode-url", "http://flag/", "--downloads", "6"], environment
    )
    assert Example("http://flag", 4, loud=True) == read(["--supernode-url", "http://flag", "--loud"])


def test_an_error_names_the_variable_if_the_value_came_from_there() -> None:
    with pytest.raises(SettingsError, match=r"^--downloads \(from PANTALA_DOWNLOADS\) '99' is not"):
        read(["--supernode-url=http://x"], {"PANTALA_DOWNLOADS": "99"})
    with pytest.raises(SettingsError, match=r"^--downloads '98' is not"):
        read(["--supernode-url=http://x", "--downloads=98"], {"PANTALA_DOWNLOADS": "99"})


def test_an_empty_value_counts_as_not_given() -> None:
    assert 4 == read(["--supernode-url", "http://x", "--downloads", ""], {"PANTALA_DOWNLOADS": "9"}).downloads
    with pytest.raises(SettingsError, match="--supernode-url is missing"):
        read([], {"PANTALA_SUPERNODE_URL": ""})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--downloads", "many"], "--downloads 'many' is not a whole number of pieces from 1 to 64."),
        (["--colour", "red"], "unrecognized arguments: --colour red. See example --help."),
        (
            ["--supernode-url", "http://user:secret@x:y"],
            "--supernode-url '<unreadable URL>' is not a valid http or https",
        ),
    ],
)
def test_a_wrong_value_gives_one_line_without_secrets(arguments: list[str], message: str) -> None:
    with pytest.raises(SettingsError) as raised:
        read(["--supernode-url", "http://x", *arguments])
    assert message in str(raised.value)
    assert "secret" not in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("reader", "text", "expected"),
    [
        (settings.address, "0.0.0.0:8080", ListenAddress("0.0.0.0", 8080)),
        (settings.address, "[::1]:0", ListenAddress("::1", 0)),
        (settings.address, ":80", ListenAddress("", 80)),
        (settings.http_url, "https://[::1]:8002/base/", "https://[::1]:8002/base"),
        (settings.unix_socket, "unix:/run/x.sock", Path("/run/x.sock")),
        (settings.unix_socket, "unix:///run/x.sock", Path("/run/x.sock")),
        (settings.seconds, "0.5", 0.5),
        (settings.whole(1, 100, "percent"), "100", 100),
        (settings.size, "0", 0),
        (settings.size, "2Gi", 2 << 30),
        (settings.rate, "500k", 500_000.0),
        (settings.rate, "1Gi", float(1 << 30)),
        (settings.yes_or_no, "yes", True),
        (settings.yes_or_no, "no", False),
    ],
)
def test_values(reader: Callable[[str], Any], text: str, expected: object) -> None:
    assert expected == reader(text)


@pytest.mark.parametrize(
    ("reader", "texts"),
    [
        (
            settings.address,
            ["8080", "host:", "host:65536", "host:²", "host:-1", f"host:{'9' * 5000}", "::1:80", "[::1:80"],
        ),
        (settings.http_url, ["host:80", "http://", "http://h:99999", "file:///etc/passwd", "http://h?q", "http://h#f"]),
        (settings.unix_socket, ["/run/x.sock", "unix:", "unix:x", "unix:///", "tcp:1", f"unix:/{'x' * 107}"]),
        (settings.seconds, ["0", "-1", "nan", "inf", "soon"]),
        (settings.whole(1, 100, "percent"), ["0", "101", "1.5", "²", "9" * 5000]),
        (settings.size, ["10G", "Gi", "-1", "1.5Gi", "10 Gi", "10GiGi", "9" * 16]),
        (settings.rate, ["fast", "0", "0k", "1Ti", "1.5M", "k"]),
        (settings.yes_or_no, ["maybe", "1", "Yes", "true"]),
    ],
)
def test_unusable_values(reader: Callable[[str], object], texts: list[str]) -> None:
    for text in texts:
        with pytest.raises(ValueError, match=r"is n|has a port"):
            reader(text)


@pytest.mark.parametrize(
    ("host", "expected"), [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("", False)]
)
def test_loopback_addresses(host: str, expected: bool) -> None:
    assert expected == ListenAddress(host, 80).is_loopback


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("localhost", True),
        ("LocalHost:5000", True),
        ("127.0.0.1:80", True),
        ("127.3.2.1", True),
        ("[::1]", True),
        ("[::1]:443", True),
        ("::1", False),
        ("127.1", False),
        ("[localhost]", False),
        ("localhost:", False),
        ("localhost.example.com", False),
        ("a@localhost", False),
        ("10.0.0.1:80", False),
        ("", False),
    ],
)
def test_hosts_of_this_machine_are_recognised(text: str, expected: bool) -> None:
    assert expected == names_loopback(text)
