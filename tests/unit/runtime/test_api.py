"""The helper's HTTP interface, over a runtime in memory."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestClient, TestServer

from pantala_protocol.runtime import PullCredentials
from pantala_runtime import errors
from pantala_runtime.api import HelperAPI
from pantala_runtime.pulls import Pulls
from tests.support.eventually import eventually
from tests.support.runtime import FakeRuntime

DIGEST = "sha256:" + "a" * 64
NGINX = "docker.io/library/nginx:latest"
AUTH = {"username": "ann", "password": "secret", "server": "https://registry-1.docker.io"}

Client = TestClient[web.Request, web.Application]


@pytest.fixture
async def runtime() -> FakeRuntime:
    return FakeRuntime({NGINX: DIGEST})


@pytest.fixture
async def client(runtime: FakeRuntime) -> AsyncIterator[Client]:
    api = HelperAPI(runtime, Pulls(runtime, time.monotonic), Path("/"))
    server = TestServer(api.application(), handler_cancellation=True)
    async with TestClient(server) as client:
        yield client


async def post(client: Client, path: str, body: Any) -> tuple[int, Any]:
    data = body if isinstance(body, bytes) else msgspec.json.encode(body)
    async with client.post(path, data=data) as response:
        content = await response.read()
        return response.status, msgspec.json.decode(content) if content else None


async def test_an_image_is_pulled_by_its_whole_name(client: Client, runtime: FakeRuntime) -> None:
    status, body = await post(client, "/v1/pull", {"image": "nginx", "timeout_seconds": 5})
    assert (200, DIGEST, 7, False) == (status, body["digest"], body["bytes"], body["pinned"])
    assert [(NGINX, None)] == runtime.pulls


async def test_credentials_go_to_the_runtime_and_nowhere_else(
    client: Client, runtime: FakeRuntime, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    runtime.error = errors.PullUnauthorizedError("no")
    status, body = await post(client, "/v1/pull", {"image": "nginx", "timeout_seconds": 5, "auth": AUTH, "pin": True})
    assert [(NGINX, PullCredentials(**AUTH))] == runtime.pulls
    assert (403, "Unauthorized") == (status, body["error"]["reason"])
    captured = capsys.readouterr()
    assert "secret" not in f"{body} {captured.out} {captured.err} {caplog.text}"


def test_credentials_do_not_show_themselves() -> None:
    credentials = PullCredentials(**AUTH)
    assert "secret" not in f"{credentials!r} {credentials} {credentials.__rich_repr__()}"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"{", "InvalidRequest"),
        ([], "InvalidRequest"),
        ({"image": "nginx"}, "InvalidRequest"),
        ({"image": "nginx", "timeout_seconds": 0}, "InvalidRequest"),
        ({"image": "nginx", "timeout_seconds": 1, "command": "rm"}, "InvalidRequest"),
        ({"image": "nginx", "timeout_seconds": 1, "auth": {"username": "a"}}, "InvalidRequest"),
        ({"image": "nginx", "timeout_seconds": 1, "auth": {**AUTH, "server": "docker.io"}}, "InvalidRequest"),
        ({"image": "nginx", "timeout_seconds": 1, "auth": {**AUTH, "server": "https://a@b"}}, "InvalidRequest"),
        ({"image": "", "timeout_seconds": 1}, "InvalidImage"),
        ({"image": "a b", "timeout_seconds": 1}, "InvalidImage"),
        ({"image": "../x", "timeout_seconds": 1}, "InvalidImage"),
        ({"image": "0" * 64, "timeout_seconds": 1}, "InvalidImage"),  # an image's ID
        ({"image": "nginx@sha256:1", "timeout_seconds": 1}, "InvalidImage"),
        ({"image": "https://r/x", "timeout_seconds": 1}, "InvalidImage"),
    ],
)
async def test_an_invalid_request_is_rejected(client: Client, runtime: FakeRuntime, body: Any, reason: str) -> None:
    status, answer = await post(client, "/v1/pull", body)
    assert (400, reason) == (status, answer["error"]["reason"])
    assert [] == runtime.pulls


@pytest.mark.parametrize(
    "error",
    [
        errors.NoSuchImageError,
        errors.PullUnauthorizedError,
        errors.NodeFullError,
        errors.PullDigestError,
        errors.PullUnreachableError,
        errors.PullFailedError,
        errors.RuntimeSilentError,
    ],
)
async def test_each_error_has_its_status(client: Client, runtime: FakeRuntime, error: type[errors.HelperError]) -> None:
    runtime.error = error("why")
    expected = (error.status, {"error": {"reason": error.reason, "message": "why"}})
    assert expected == await post(client, "/v1/pull", {"image": "nginx", "timeout_seconds": 5})


async def test_a_timeout_is_an_answer(client: Client, runtime: FakeRuntime) -> None:
    runtime.free.clear()
    status, body = await post(client, "/v1/pull", {"image": "nginx", "timeout_seconds": 0.05})
    assert (504, "Timeout", 0) == (status, body["error"]["reason"], runtime.running)


async def test_a_client_that_disconnects_cancels_its_pull(client: Client, runtime: FakeRuntime) -> None:
    runtime.free.clear()
    async with ClientSession() as session:
        order = msgspec.json.encode({"image": "nginx", "timeout_seconds": 60})
        asking = asyncio.create_task(session.post(client.make_url("/v1/pull"), data=order).__aenter__())
        await eventually(lambda: runtime.running == 1)
        asking.cancel()
    await eventually(lambda: runtime.running == 0)


async def test_an_image_can_be_unpinned_and_never_removed(client: Client, runtime: FakeRuntime) -> None:
    await post(client, "/v1/pull", {"image": "nginx", "timeout_seconds": 5, "pin": True})
    assert runtime.here[NGINX].pinned
    assert (204, None) == await post(client, "/v1/unpin", {"image": "nginx"})
    assert not runtime.here[NGINX].pinned
    for path in ("/v1/images", "/v1/images/nginx", "/v1/pull"):
        async with client.delete(path) as response:
            assert response.status in (404, 405)


@pytest.mark.parametrize("name", ["docker.io/library/other:1", f"nginx@{DIGEST}", "quay.io/library/nginx:1"])
async def test_a_name_of_another_repository_or_by_digest_is_rejected(
    client: Client, runtime: FakeRuntime, name: str
) -> None:
    status, body = await post(client, "/v1/name", {"image": f"nginx@{DIGEST}", "name": name})
    assert (400, "InvalidRequest") == (status, body["error"]["reason"])
    status, _ = await post(client, "/v1/name", {"image": "nginx:1", "name": "nginx:2"})
    assert 400 == status


async def test_a_name_is_added_and_a_pin_reported(client: Client, runtime: FakeRuntime) -> None:
    image = f"docker.io/library/nginx@{DIGEST}"
    runtime.registry[image] = DIGEST
    await post(client, "/v1/pull", {"image": image, "timeout_seconds": 5})
    assert (204, None) == await post(client, "/v1/name", {"image": image, "name": "nginx:1"})
    assert "docker.io/library/nginx:1" in runtime.here[image].tags
    assert (200, {"pinned": True}) == await post(client, "/v1/pin", {"image": image})


async def test_without_a_content_store_blobs_are_not_known(client: Client) -> None:
    assert (200, {"present": None}) == await post(client, "/v1/blobs", {"digests": [DIGEST]})


async def test_images_are_listed(client: Client) -> None:
    await post(client, "/v1/pull", {"image": "nginx", "timeout_seconds": 5})
    async with client.get("/v1/images") as response:
        listed = {"id": DIGEST, "tags": [NGINX], "digests": [f"docker.io/library/nginx@{DIGEST}"], "bytes": 7}
        assert [{**listed, "pinned": False}] == await response.json()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/etc/containerd/certs.d", {"config_path": "/etc/containerd/certs.d", "in_force": True}),
        ("", {"config_path": "", "in_force": False}),
        (None, {"config_path": None, "in_force": None}),
    ],
)
async def test_the_status_reports_only_known_facts(
    client: Client, runtime: FakeRuntime, path: str | None, expected: dict[str, Any]
) -> None:
    runtime.config_path = path
    async with client.get("/v1/status") as response:
        body = await response.json()
    assert expected == body["mirror"]
    assert {"honoured": None} == body["pinning"]
    assert {"name": "fake", "version": "1", "api_version": "v1"} == body["runtime"]
    filesystem = body["image_filesystem"]
    assert ("/", 7) == (filesystem["path"], filesystem["used"])
    assert 0 < filesystem["free"] <= filesystem["total"]


async def test_any_pinned_image_proves_that_pins_are_honoured(client: Client, runtime: FakeRuntime) -> None:
    await runtime.pull(NGINX, None)
    await runtime.mark_pinned(NGINX, pinned=True)
    async with client.get("/v1/status") as response:
        assert {"honoured": True} == (await response.json())["pinning"]


async def test_a_runtime_that_is_down_is_reported(client: Client, runtime: FakeRuntime) -> None:
    runtime.error = errors.RuntimeSilentError("down")
    for path in ("/v1/status", "/v1/images"):
        async with client.get(path) as response:
            assert (503, "RuntimeUnavailable") == (response.status, (await response.json())["error"]["reason"])
    status, body = await post(client, "/v1/probe", {"node": "node-1.example"})
    assert (503, "RuntimeUnavailable") == (status, body["error"]["reason"])


async def test_a_probe_pulls_a_name_that_only_the_mirror_knows(client: Client, runtime: FakeRuntime) -> None:
    status, body = await post(client, "/v1/probe", {"node": "node-1.example", "port": 65009})
    assert (200, "NotFound") == (status, body["outcome"])
    assert [("localhost:65009/probe/node-1.example:1", None)] == runtime.pulls


@pytest.mark.parametrize("node", ["", "a/../b", "a:1", "a@b", "A B"])
async def test_a_probe_accepts_only_the_name_of_a_node(client: Client, runtime: FakeRuntime, node: str) -> None:
    status, body = await post(client, "/v1/probe", {"node": node})
    assert (400, "InvalidImage") == (status, body["error"]["reason"])
    assert [] == runtime.pulls


async def test_a_body_is_bounded(client: Client) -> None:
    status, body = await post(client, "/v1/pull", b" " * 600_000)
    assert (413, "RequestEntityTooLarge") == (status, body["error"]["reason"])
