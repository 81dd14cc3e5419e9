"""The runtime helper: its API, flags, socket, end and generated code."""

import asyncio
import socket
import stat
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import ClientSession, UnixConnector, web
from aiohttp.test_utils import TestClient, TestServer

from pantala_process.settings import SettingsError
from pantala_protocol.runtime import PullCredentials
from pantala_runtime import errors, proto
from pantala_runtime.api import HelperAPI
from pantala_runtime.app import build
from pantala_runtime.proto.generate import generate
from pantala_runtime.pulls import Pulls
from pantala_runtime.settings import Settings, parse
from tests.support.eventually import eventually
from tests.support.runtime import FakeRuntime

DIGEST = "sha256:" + "a" * 64
NGINX = "docker.io/library/nginx:latest"
AUTH = {"username": "ann", "password": "secret", "server": "https://registry-1.docker.io"}


class Helper:
    def __init__(self, runtime: FakeRuntime, client: TestClient[web.Request, web.Application]) -> None:
        self.runtime, self.client = runtime, client

    async def get(self, path: str) -> tuple[int, Any]:
        async with self.client.get(path) as response:
            return response.status, await response.json()

    async def post(self, path: str, body: Any) -> tuple[int, Any]:
        data = body if isinstance(body, bytes) else msgspec.json.encode(body)
        async with self.client.post(path, data=data) as response:
            content = await response.read()
            return response.status, msgspec.json.decode(content) if content else None

    async def pull(self, image: str = "nginx", timeout: float = 5, **body: Any) -> tuple[int, Any]:
        return await self.post("/v1/pull", {"image": image, "timeout_seconds": timeout, **body})


def failure(answer: tuple[int, Any]) -> tuple[int, str]:
    """The status and the reason of an error."""
    return answer[0], answer[1]["error"]["reason"]


@pytest.fixture
async def runtime() -> FakeRuntime:
    return FakeRuntime({NGINX: DIGEST})


@pytest.fixture
async def helper(runtime: FakeRuntime) -> AsyncIterator[Helper]:
    api = HelperAPI(runtime, Pulls(runtime, time.monotonic), Path("/"))
    async with TestClient(TestServer(api.application(), handler_cancellation=True)) as client:
        yield Helper(runtime, client)


async def test_an_image_is_pulled_by_its_whole_name(helper: Helper) -> None:
    status, body = await helper.pull()
    assert (200, DIGEST, 7, False) == (status, body["digest"], body["bytes"], body["pinned"])
    assert [(NGINX, None)] == helper.runtime.pulls


async def test_only_the_runtime_receives_credentials(
    helper: Helper, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    helper.runtime.error = errors.PullUnauthorizedError("no")
    answer = await helper.pull(auth=AUTH, pin=True)
    assert [(NGINX, PullCredentials(**AUTH))] == helper.runtime.pulls
    assert (403, "Unauthorized") == failure(answer)
    assert "secret" not in f"{answer} {capsys.readouterr()} {caplog.text}"


def test_credentials_do_not_show_themselves() -> None:
    credentials = PullCredentials(**AUTH)
    assert "secret" not in f"{credentials!r} {credentials} {credentials.__rich_repr__()}"


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        [],
        {"image": "nginx"},
        {"image": "nginx", "timeout_seconds": 0},
        {"image": "nginx", "timeout_seconds": 1, "command": "rm"},
        {"image": "nginx", "timeout_seconds": 1, "auth": {"username": "a"}},
        {"image": "nginx", "timeout_seconds": 1, "auth": {**AUTH, "server": "docker.io"}},
        {"image": "nginx", "timeout_seconds": 1, "auth": {**AUTH, "server": "https://a@b"}},
    ],
)
async def test_an_invalid_request_is_rejected(helper: Helper, body: Any) -> None:
    assert (400, "InvalidRequest") == failure(await helper.post("/v1/pull", body))
    assert [] == helper.runtime.pulls


@pytest.mark.parametrize("image", ["", "a b", "../x", "0" * 64, "nginx@sha256:1", "https://r/x"])
async def test_a_name_that_is_not_a_valid_reference_is_rejected(helper: Helper, image: str) -> None:
    """64 hex digits are the ID of an image."""
    assert (400, "InvalidImage") == failure(await helper.pull(image))
    assert [] == helper.runtime.pulls


@pytest.mark.parametrize("error", errors.HelperError.__subclasses__())
async def test_each_error_has_its_status(helper: Helper, error: type[errors.HelperError]) -> None:
    helper.runtime.error = error("why")
    assert (error.status, {"error": {"reason": error.reason, "message": "why"}}) == await helper.pull()


async def test_a_timeout_is_an_answer(helper: Helper) -> None:
    helper.runtime.free.clear()
    assert (504, "Timeout") == failure(await helper.pull(timeout=0.05))
    assert 0 == helper.runtime.running


async def test_a_client_that_disconnects_cancels_its_pull(helper: Helper) -> None:
    helper.runtime.free.clear()
    async with ClientSession() as session:
        order = msgspec.json.encode({"image": "nginx", "timeout_seconds": 60})
        url = helper.client.make_url("/v1/pull")
        asking = asyncio.create_task(session.post(url, data=order).__aenter__())
        await eventually(lambda: helper.runtime.running == 1)
        asking.cancel()
    await eventually(lambda: helper.runtime.running == 0)


async def test_an_image_can_be_unpinned_and_never_removed(helper: Helper) -> None:
    await helper.pull(pin=True)
    assert helper.runtime.here[NGINX].pinned
    assert (204, None) == await helper.post("/v1/unpin", {"image": "nginx"})
    assert not helper.runtime.here[NGINX].pinned
    for path in ("/v1/images", "/v1/images/nginx", "/v1/pull"):
        async with helper.client.delete(path) as response:
            assert response.status in (404, 405)


@pytest.mark.parametrize(
    ("image", "name"),
    [
        (f"nginx@{DIGEST}", "docker.io/library/other:1"),
        (f"nginx@{DIGEST}", f"nginx@{DIGEST}"),
        (f"nginx@{DIGEST}", "quay.io/library/nginx:1"),
        ("nginx:1", "nginx:2"),
    ],
)
async def test_a_name_of_another_repository_or_by_digest_is_rejected(helper: Helper, image: str, name: str) -> None:
    assert (400, "InvalidRequest") == failure(await helper.post("/v1/name", {"image": image, "name": name}))


async def test_a_name_is_added_and_a_pin_reported(helper: Helper) -> None:
    image = f"docker.io/library/nginx@{DIGEST}"
    helper.runtime.registry[image] = DIGEST
    await helper.pull(image)
    assert (204, None) == await helper.post("/v1/name", {"image": image, "name": "nginx:1"})
    assert "docker.io/library/nginx:1" in helper.runtime.here[image].tags
    assert (200, {"pinned": True}) == await helper.post("/v1/pin", {"image": image})


async def test_without_a_content_store_blobs_are_not_known(helper: Helper) -> None:
    assert (200, {"present": None}) == await helper.post("/v1/blobs", {"digests": [DIGEST]})


async def test_images_are_listed(helper: Helper) -> None:
    await helper.pull()
    listed = {"id": DIGEST, "tags": [NGINX], "digests": [f"docker.io/library/nginx@{DIGEST}"], "bytes": 7}
    assert (200, [{**listed, "pinned": False}]) == await helper.get("/v1/images")


@pytest.mark.parametrize(("path", "in_force"), [("/etc/containerd/certs.d", True), ("", False), (None, None)])
async def test_the_status_reports_only_known_facts(helper: Helper, path: str | None, in_force: bool | None) -> None:
    helper.runtime.config_path = path
    _, body = await helper.get("/v1/status")
    assert {"config_path": path, "in_force": in_force} == body["mirror"]
    assert {"honoured": None} == body["pinning"]
    assert {"name": "fake", "version": "1", "api_version": "v1"} == body["runtime"]
    filesystem = body["image_filesystem"]
    assert ("/", 7) == (filesystem["path"], filesystem["used"])
    assert 0 < filesystem["free"] <= filesystem["total"]


async def test_any_pinned_image_proves_that_pins_are_honoured(helper: Helper) -> None:
    await helper.runtime.pull(NGINX, None)
    await helper.runtime.mark_pinned(NGINX, pinned=True)
    assert {"honoured": True} == (await helper.get("/v1/status"))[1]["pinning"]


async def test_a_runtime_that_is_down_is_reported(helper: Helper) -> None:
    helper.runtime.error = errors.RuntimeSilentError("down")
    for answer in (
        await helper.get("/v1/status"),
        await helper.get("/v1/images"),
        await helper.post("/v1/probe", {"node": "node-1.example"}),
    ):
        assert (503, "RuntimeUnavailable") == failure(answer)


async def test_a_probe_pulls_a_name_that_only_the_mirror_knows(helper: Helper) -> None:
    status, body = await helper.post("/v1/probe", {"node": "node-1.example", "port": 65009})
    assert (200, "NotFound") == (status, body["outcome"])
    assert [("localhost:65009/probe/node-1.example:1", None)] == helper.runtime.pulls


@pytest.mark.parametrize("node", ["", "a/../b", "a:1", "a@b", "A B"])
async def test_a_probe_accepts_only_the_name_of_a_node(helper: Helper, node: str) -> None:
    assert (400, "InvalidImage") == failure(await helper.post("/v1/probe", {"node": node}))
    assert [] == helper.runtime.pulls


async def test_a_body_is_bounded(helper: Helper) -> None:
    assert (413, "RequestEntityTooLarge") == failure(await helper.post("/v1/pull", b" " * 600_000))


async def test_only_our_user_can_open_the_socket_and_a_dead_one_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "runtime.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    stop = asyncio.Event()
    running = asyncio.create_task(build(Settings(f"unix://{tmp_path}/none.sock", path, grace=0.1)).run(stop))
    async with ClientSession(connector=UnixConnector(str(path))) as session, asyncio.timeout(10):
        await asyncio.sleep(0.1)
        assert 0o600 == stat.S_IMODE(path.stat().st_mode)
        async with session.get("http://runtime/v1/status") as response:
            assert (503, "RuntimeUnavailable") == (response.status, (await response.json())["error"]["reason"])
    stop.set()
    await running
    assert not path.exists()


async def test_a_file_that_is_not_a_socket_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "runtime.sock"
    path.write_text("mine")
    with pytest.raises(SettingsError, match="is not a socket"):
        await build(Settings(listen=path)).run(asyncio.Event())
    assert "mine" == path.read_text()


def test_generated_code_is_in_step_with_its_definitions(tmp_path: Path) -> None:
    pytest.importorskip("grpc_tools", reason="grpcio-tools is not installed; the generated code is not compared")
    generate(tmp_path)
    here = Path(str(proto.__file__)).parent
    assert {path.name: path.read_text() for path in here.glob("*_pb2.py*")} == {
        path.name: path.read_text() for path in tmp_path.iterdir()
    }


def test_flags_win_over_the_environment_that_mirrors_them() -> None:
    environment = {
        "PANTALA_RUNTIME": "unix:///r.sock",
        "PANTALA_LISTEN": "unix:///l.sock",
        "PANTALA_IMAGE_FILESYSTEM": "/images",
        "PANTALA_CONTENT": "/content",
    }
    assert Settings("unix:///r.sock", Path("/l.sock"), Path("/images"), Path("/content")) == parse([], environment)
    assert Path("/flag.sock") == parse(["--listen", "unix:/flag.sock"], environment).listen
