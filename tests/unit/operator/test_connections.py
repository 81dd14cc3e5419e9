"""The operator's connections: to supernodes, and to the API server of a kubeconfig."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import kopf
import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import RawTestServer
from kubernetes.aio import client
from structlog.testing import capture_logs

from pantala_operator.adapters import kubernetes
from pantala_operator.adapters.supernode import HTTPSupernodeAPI
from pantala_operator.app import build
from pantala_operator.errors import (
    ClusterError,
    ClusterForbiddenError,
    ClusterNotFoundError,
    ClusterUnavailableError,
    SupernodeRefusedError,
    SupernodeUnavailableError,
)
from pantala_operator.events import OperatorEvents
from pantala_operator.resources.api import TaskResource, TaskStatus
from pantala_operator.settings import parse
from pantala_operator.watch import stream
from pantala_operator.watch.kinds import ServedKinds
from pantala_operator.watch.observation import Observation, ResourceInbox
from pantala_protocol.statement import Changes, Statement, StatementReceipt, WantedTask
from tests.support.cluster import MemoryClock, MemoryCluster
from tests.support.eventually import eventually
from tests.support.unprivileged import unprivileged

SENT = Statement(7, (WantedTask("u", "ns/t", "f" * 64, "http://o/f", {"Authorization": "x"}, peers=("a",)),))


class Script:
    """A server with scripted answers. It keeps the requests."""

    def __init__(self) -> None:
        self.url = ""
        self.status = 200
        self.answer = b""
        self.requests: list[tuple[str, str, str | None, bytes]] = []

    async def handle(self, request: web.BaseRequest) -> web.Response:
        body = await request.read()
        self.requests.append((request.method, request.path_qs, request.headers.get("Authorization"), body))
        return web.Response(status=self.status, body=self.answer, content_type="application/json")


def kubeconfig(folder: Path, server: str) -> str:
    """The path of a new kubeconfig for this API server."""
    entry = {"name": "c", "cluster": {"server": server}, "context": {"cluster": "c", "user": "c"}, "user": {}}
    lists = {each: [entry] for each in ("clusters", "contexts", "users")}
    file = folder / "config"
    file.write_text(json.dumps({"current-context": "c", **lists}))
    return str(file)


@pytest.fixture
async def server() -> AsyncIterator[Script]:
    script = Script()
    async with RawTestServer(script.handle) as server:
        script.url = str(server.make_url("")).rstrip("/")
        yield script


@pytest.fixture
async def supernode(server: Script) -> AsyncIterator[HTTPSupernodeAPI]:
    client = HTTPSupernodeAPI(server.url)
    yield client
    await client.close()


async def test_a_statement_arrives_as_it_was_sent(server: Script, supernode: HTTPSupernodeAPI) -> None:
    server.answer = msgspec.json.encode(StatementReceipt("b", 7))
    assert StatementReceipt("b", 7) == await supernode.state(SENT)
    method, path, authorization, body = server.requests[0]
    assert ("PUT", "/api/v1/statement", None) == (method, path, authorization)
    assert SENT == msgspec.json.decode(body, type=Statement)


async def test_changes_are_requested_since_the_last_version(server: Script, supernode: HTTPSupernodeAPI) -> None:
    server.answer = msgspec.json.encode(Changes("b", 9))
    assert Changes("b", 9) == await supernode.changes("b", 8, 20.0)
    assert "/api/v1/changes?boot=b&since=8&wait=20&numbers=true" == server.requests[0][1]


async def test_a_rotated_token_is_used_at_once(server: Script, tmp_path: Path) -> None:
    token = tmp_path / "token"
    server.answer = msgspec.json.encode(StatementReceipt("b", 7))
    supernode = HTTPSupernodeAPI(server.url, token)
    try:
        for text in ("one\n", "two"):
            token.write_text(text)
            await supernode.state(SENT)
        token.unlink()
        with pytest.raises(SupernodeUnavailableError, match="token"):
            await supernode.state(SENT)
    finally:
        await supernode.close()
    assert ["Bearer one", "Bearer two"] == [each[2] for each in server.requests]


@pytest.mark.parametrize(
    ("status", "body", "kind", "message"),
    [
        (403, b'{"error":{"reason":"Forbidden","message":"no"}}', SupernodeRefusedError, "403: Forbidden: no"),
        (503, b"busy", SupernodeUnavailableError, "503: busy"),
        (302, b"", SupernodeRefusedError, "302"),
        (200, b"<html>", SupernodeRefusedError, "not a valid StatementReceipt"),
        (200, b'{"boot":1}', SupernodeRefusedError, "not a valid StatementReceipt"),
    ],
)
async def test_a_bad_answer_raises(
    server: Script, supernode: HTTPSupernodeAPI, status: int, body: bytes, kind: type[Exception], message: str
) -> None:
    server.status, server.answer = status, body
    with pytest.raises(kind, match=message):
        await supernode.state(SENT)


async def test_an_unreachable_supernode_is_named_without_its_password(unused_tcp_port: int) -> None:
    supernode = HTTPSupernodeAPI(f"http://user:secret@127.0.0.1:{unused_tcp_port}")
    try:
        with pytest.raises(SupernodeUnavailableError) as error:
            await supernode.state(SENT)
    finally:
        await supernode.close()
    assert "secret" not in str(error.value)
    assert "refused" in str(error.value)


@pytest.mark.parametrize(
    "content", ["", "junk", "junk: [", "[]", "current-context: a", "current-context: a\ncontexts: 5", "\x00"]
)
async def test_a_file_that_is_not_a_valid_kubeconfig(tmp_path: Path, content: str) -> None:
    file = tmp_path / "config"
    file.write_text(content)
    with pytest.raises(ClusterError, match=r"in the kubeconfig .*\. Give a valid file as --kubeconfig") as caught:
        await kubernetes.connect(str(file))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("variable", ["KUBECONFIG", "HOME", ""])
async def test_a_missing_kubeconfig(
    tmp_path: Path, variable: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    if variable:
        monkeypatch.setenv(variable, str(tmp_path / "missing"))
    text = r"the kubeconfig .*(missing|~/.kube/config): it does not exist, or is not a file. Give a valid file"
    with pytest.raises(ClusterError, match=text):
        await kubernetes.connect("" if variable else str(tmp_path / "missing"))
    assert [] == caplog.records


async def test_a_kubeconfig_without_access() -> None:
    with unprivileged() as folder:
        (folder / "config").write_text("")
        folder.chmod(0)
        with pytest.raises(ClusterError, match=r"/config: Permission denied\. Give a valid file as --kubeconfig$"):
            await kubernetes.connect(str(folder / "config"))


@pytest.mark.parametrize(
    ("server", "text"),
    [("http://127.0.0.1:9", "(Connection refused)"), ("http://host.invalid:9", "(unknown host name)")],
)
async def test_an_unreachable_api_server_is_reported_once_and_without_names_of_classes(
    tmp_path: Path, server: str, text: str
) -> None:
    config = kubeconfig(tmp_path, server)
    settings = parse(["--supernode=http://127.0.0.2:9", "--kubeconfig", config, "--health-listen=127.0.0.1:0"], {})
    with capture_logs() as logged:
        app = await build(settings)
        running = asyncio.create_task(app.run())
        await eventually(lambda: text in "".join(app.problems()))
        reported = [each for each in logged if server in str(each)]
        running.cancel()
        await asyncio.wait({running})
    assert 1 == len(app.problems())
    expected = f"the API server {server} does not answer {text}. Check its address and the network"
    assert [f"a request to the API server failed: {expected}"] == [each["reason"] for each in reported]


@pytest.mark.parametrize(
    ("status", "error"), [(403, ClusterForbiddenError), (404, ClusterNotFoundError), (500, ClusterUnavailableError)]
)
async def test_errors_of_the_api_server_have_their_own_classes(
    server: Script, status: int, error: type[Exception]
) -> None:
    server.status, configuration = status, client.Configuration()
    configuration.host = server.url
    async with kubernetes.KubernetesCluster(configuration) as cluster:
        with pytest.raises(error, match=f"answered {status} to GET /x"):
            await cluster.request("get", "/x")


async def test_a_status_of_another_version_does_not_hide_a_task(server: Script, tmp_path: Path) -> None:
    """Without the Task, the next statement would make all nodes drop its file."""
    metadata, spec = {"name": "t", "namespace": "ns"}, {"source": {"url": "http://o/f"}}
    body = {"metadata": metadata, "spec": spec, "status": {"pieces": "3 of 4"}}
    server.answer = json.dumps({"items": [body]}).encode()
    cluster = await kubernetes.connect(kubeconfig(tmp_path, server.url))
    (listed,) = await cluster.list_all(TaskResource)
    await cluster.close()
    known = Observation()
    ResourceInbox(known, OperatorEvents()).put("tasks", "ADDED", body)
    assert ("ns/t", TaskStatus(), [listed]) == (listed.metadata.key, listed.status, [*known.tasks.items.values()])


async def test_a_failed_request_of_the_watch_is_logged_without_names_of_classes(
    server: Script, caplog: pytest.LogCaptureFixture
) -> None:
    server.status, server.answer = 429, b'{"kind": "Status", "code": 429, "message": "storage is initializing"}'

    async def login() -> kopf.ConnectionInfo:
        return kopf.ConnectionInfo(server=server.url)

    kinds, inbox = ServedKinds(MemoryCluster(), MemoryClock()), ResourceInbox(Observation(), OperatorEvents())
    running = {asyncio.create_task(each) for each in (kinds.run(), stream.watch(inbox, kinds, login))}
    try:
        await eventually(lambda: "storage is initializing" in caplog.text)
    finally:
        for each in running:
            each.cancel()
        await asyncio.wait(running)
    assert [] == re.findall(r"\w+Error", caplog.text)
