"""Probes and monitoring read one format from all processes."""

import json
from pathlib import Path

import aiohttp
import pytest
from prometheus_client.core import CounterMetricFamily

from pantala_process import health, http, metrics
from pantala_process.http import TooLargeError
from pantala_process.settings import ListenAddress


async def get(path: str, *reasons: str) -> tuple[int, str]:
    registry = metrics.new_registry("example")
    registry.register(metrics.Readings(lambda: [CounterMetricFamily("pantala_sent_bytes", "Sent.", 7)]))
    app = health.application(registry, ready=lambda: reasons)
    async with (
        http.serving(app, ListenAddress("127.0.0.1", 0), grace=1) as port,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client,
        client.get(path) as response,
    ):
        return response.status, (await http.read_bounded(response, 1 << 20)).decode()


async def test_a_process_is_ready_or_says_why_not() -> None:
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


async def test_a_body_is_read_up_to_its_limit() -> None:
    app = health.application(metrics.new_registry("example"), ready=tuple)
    async with (
        http.serving(app, ListenAddress("127.0.0.1", 0), grace=1) as port,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client,
        client.get("/readyz") as response,
    ):
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
