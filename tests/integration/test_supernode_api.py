"""The supernode's API over real sockets: access, and answers to garbage."""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from structlog.testing import capture_logs

from pantala_process.identity import ClusterKeys, ServerClock, TokenIdentity
from pantala_protocol import task_id
from pantala_supernode.app import App, serving
from pantala_supernode.http.access import Access
from pantala_supernode.http.application import application
from pantala_supernode.metrics import Metrics
from tests.support.eventually import eventually
from tests.support.peer_lab import peer
from tests.support.supernode_lab import loopback
from tests.support.token_issuer import TokenIssuer, listening

OPERATOR = "system:serviceaccount:pantala:operator"
PEER = "system:serviceaccount:pantala:peer"
SUPERNODE = "system:serviceaccount:pantala:supernode"
COPY = f"/api/v1/copies/{task_id.compute('x')}"


@dataclass
class Lab:
    """A supernode that requires tokens, and the API server that issues them."""

    app: App
    cluster: TokenIssuer

    async def call(self, path: str, method: str = "GET", token: str = "", data: bytes = b"") -> tuple[int, Any]:
        return await call(f"http://127.0.0.1:{self.app.settings.listen.port}{path}", method, token, data)


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    cluster = TokenIssuer()
    trusted = {"trusted_operator": OPERATOR, "trusted_peer": PEER, "trusted_supernode": SUPERNODE}
    async with (
        cluster.serving() as url,
        serving(loopback(tmp_path / "data", no_auth=False, api_server=url, **trusted)) as app,
    ):
        yield Lab(app, cluster)


async def call(url: str, method: str = "GET", token: str = "", data: bytes = b"") -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with aiohttp.ClientSession() as session, session.request(method, url, headers=headers, data=data) as answer:
        return answer.status, json.loads(await answer.read())


async def test_every_route_has_a_decision_and_only_probes_are_open(lab: Lab) -> None:
    """A1: a new route without a decision about access fails here."""
    routes = [route for route in lab.app.api.router.routes() if route.method != "HEAD"]
    assert routes
    for route in routes:
        access = lab.app.guard.decision(route)
        assert access is not None, f"{route.method} {route} has no decision"
        info = route.get_info()
        path = info.get("path") or info["formatter"].replace("{", "").replace("}", "")
        status, _ = await lab.call(path, route.method)
        assert (path in {"/healthz", "/readyz"}) == (access is Access.OPEN)
        assert (status == 401) == (access is not Access.OPEN)


async def test_a_route_without_a_decision_is_refused(lab: Lab) -> None:
    async def secret(_request: web.Request) -> web.Response:
        return web.Response(text="secret")

    api = application((), lab.app.guard, Metrics(), document_access=Access.OPEN, metrics_access=Access.OPEN)
    api.router.add_get("/new", secret)
    async with listening(api) as url:
        assert 403 == (await call(f"{url}/new"))[0]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, 200),
        ({"aud": ["other"]}, 401),
        ({"iss": "https://other.example"}, 401),
        ({"exp": 1}, 401),
        ({"sub": PEER}, 403),
        ({"forged": True}, 401),
        ({"kid": "unknown"}, 401),
    ],
)
async def test_only_a_valid_operator_token_reads_changes(lab: Lab, change: dict[str, Any], expected: int) -> None:
    token = lab.cluster.token(**{"subject": OPERATOR, **change})
    for path in ("/api/v1/changes", "/api/v1/progress"):
        assert expected == (await lab.call(path, token=token))[0]


@pytest.mark.parametrize(("subject", "expected"), [(SUPERNODE, 404), (OPERATOR, 403), (PEER, 403)])
async def test_only_supernodes_read_copies(lab: Lab, subject: str, expected: int) -> None:
    token = lab.cluster.token(subject)
    assert expected == (await lab.call(COPY, token=token))[0]
    assert expected == (await lab.call(f"{COPY}/content?generation=g", token=token))[0]
    status, _ = await lab.call(COPY, "PUT", token, b'{"url": "http://origin.example/f"}')
    assert (200 if expected == 404 else expected) == status


async def test_unknown_keys_do_not_cause_more_loads_of_the_keys(lab: Lab) -> None:
    for number in range(10):
        token = lab.cluster.token(OPERATOR, kid=f"k{number + 5}")
        assert 401 == (await lab.call("/api/v1/changes", token=token))[0]
    assert lab.cluster.loads <= 2


async def test_only_a_client_with_a_token_keeps_its_connection(lab: Lab) -> None:
    url = f"http://127.0.0.1:{lab.app.settings.listen.port}"
    operator, supernode = lab.cluster.token(OPERATOR), lab.cluster.token(SUPERNODE)
    cases = [("/readyz", "", 200), ("/api/v1/changes", "", 401), ("/api/v1/changes", supernode, 403), ("/x", "", 404)]
    kept = [("/api/v1/changes", operator, 200), (COPY, supernode, 404)]
    async with aiohttp.ClientSession() as session:
        for path, token, status in cases + kept:
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            async with session.get(url + path, headers=headers) as answer:
                assert status == answer.status
                assert ("close" == answer.headers.get("Connection")) is ((path, token, status) in cases), path


@pytest.mark.parametrize(
    ("subject", "texts"),
    [
        ("", ("(401)", "no bearer token", "Check the peer's --token-file")),
        (OPERATOR, ("(403)", "may not call this route. Check", "--trusted-peer")),
        (None, ("the token file", "cannot be read: No such file", "name another file")),
    ],
)
async def test_a_refused_peer_has_the_reason_and_the_next_step(
    lab: Lab, tmp_path: Path, subject: str | None, texts: tuple[str, ...]
) -> None:
    file = tmp_path / "token"
    if subject is not None:
        file.write_text(lab.cluster.token(subject))
    url = f"http://127.0.0.1:{lab.app.settings.listen.port}"
    async with peer(url, tmp_path / "node", token_file=None if subject == "" else file) as node:
        await eventually(lambda: all(text in "".join(node.problems()) for text in texts))
        assert "{" not in "".join(node.problems())


async def test_a_wrong_path_names_the_list_of_routes(lab: Lab) -> None:
    for path, method in (("/", "GET"), ("/api/v1/sync", "GET")):
        answer = (await lab.call(path, method))[1]
        assert "GET /openapi.json lists all routes" in answer["error"]["message"]


async def test_a_supernode_that_cannot_read_the_keys_says_so_once(tmp_path: Path) -> None:
    token = TokenIssuer().token(PEER)
    with capture_logs() as logged:
        async with serving(loopback(tmp_path, no_auth=False, api_server="http://127.0.0.1:9")) as app:
            for _ in range(2):
                assert 401 == (await call(f"http://127.0.0.1:{app.settings.listen.port}/metrics", token=token))[0]
    assert ["cannot read the cluster's keys: Connection refused. Check the API server and the token"] == [
        each["error"] for each in logged if each["event"].startswith("new tokens are refused")
    ]


async def test_a_peer_registers_only_as_the_node_of_its_token(lab: Lab) -> None:
    """A13: a token of node1 does not register as node2."""
    body = json.dumps({"peer": "node2", "boot": "b", "seq": 1, "inventory": {}}).encode()
    status, answer = await lab.call("/api/v1/sync", "POST", lab.cluster.token(PEER, node="node1"), body)
    assert (403, "Forbidden") == (status, answer["error"]["reason"])
    status, answer = await lab.call("/api/v1/sync", "POST", lab.cluster.token(PEER, node="node2"), body)
    assert (200, 1) == (status, answer["seq"])


async def test_a_token_is_verified_once_until_it_expires(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    verified = []
    verify = ClusterKeys.verify

    async def counted(keys: ClusterKeys, token: str) -> TokenIdentity:
        verified.append(token)
        return await verify(keys, token)

    monkeypatch.setattr(ClusterKeys, "verify", counted)
    token, body = (
        lab.cluster.token(PEER),
        json.dumps({"peer": "node1", "boot": "b", "seq": 1, "inventory": {}}).encode(),
    )
    for _ in range(3):
        assert 200 == (await lab.call("/api/v1/sync", "POST", token, body))[0]
    assert [token] == verified
    assert 403 == (await lab.call("/metrics", token=token))[0]
    assert 200 == (await lab.call("/api/v1/sync", "POST", lab.cluster.token(PEER, jti="other"), body))[0]
    assert 2 == len(verified)
    now = time.time()
    monkeypatch.setattr(ServerClock, "now", lambda _: now + 3600)
    await lab.call("/api/v1/sync", "POST", token, body)
    assert [token] == verified[2:]


@pytest.mark.parametrize("length", [2, 50_000_000])
async def test_a_refused_exchange_ends_its_connection_before_its_body(lab: Lab, length: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", lab.app.settings.listen.port)
    token = lab.cluster.token(PEER, forged=True)
    head = f"POST /api/v1/sync HTTP/1.1\r\nHost: s\r\nAuthorization: Bearer {token}\r\nContent-Length: {length}\r\n\r\n"
    writer.write(head.encode() + b"{}")
    async with asyncio.timeout(5):
        answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 401 Unauthorized\r\n")
    assert b'\r\nWWW-Authenticate: Bearer realm="pantala"\r\n' in answer
    assert answer.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize(
    "token",
    [
        b"\xff\xfe",
        "é.é.é".encode(),
        b"a.b.c",
        b"e30.e30.",
        b"....",
        b"W" * 6000,
        base64.b64encode(b"[" * 4000) + b".e30.x",
    ],
    ids=["bytes", "utf-8", "words", "empty", "dots", "long", "deep"],
)
@pytest.mark.parametrize("path", ["/api/v1/changes", "/api/v1/sync"])
async def test_low_any_other_token_is_answered_with_401(
    lab: Lab, path: str, token: bytes, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", lab.app.settings.listen.port)
    method = b"POST" if path.endswith("sync") else b"GET"
    head = b"%b %b HTTP/1.1\r\nHost: s\r\nContent-Length: 2\r\nAuthorization: Bearer %b\r\n\r\n{}"
    writer.write(head % (method, path.encode(), token))
    async with asyncio.timeout(5):
        answer = await reader.readline()
    writer.close()
    assert b"HTTP/1.1 401 Unauthorized\r\n" == answer
    assert "Traceback" not in caplog.text + "".join(capfd.readouterr())


GARBAGE = [
    b"{",
    b'{"revision": -1}',
    b'{"revision": 1e400}',
    b'{"revision": 1, "tasks": [{"uid": 5}]}',
    b'{"revision": 1, "tasks": [{"uid": "u", "name": "n", "task_id": "../../etc", "url": "http://x/"}]}',
    b'{"peer": "node1", "boot": "b", "seq": 1, "done": {"t": {"generation": "g", "pieces": "0-99999999999"}}}',
    b'{"peer": "node1", "boot": "b", "seq": 1, "inventory": {"../x": {"generation": "g", "pieces": "a"}}}',
    b'{"peer": "node1", "boot": "b", "seq": "x"}',
    b'{"url": 5}',
    b'{"peer": "node1", "boot": "b", "seq": 1, "inventory": {%s}}'
    % b",".join(b'"t%d": {"generation": "g", "pieces": "4194303"}' % number for number in range(20)),
]


@pytest.mark.parametrize("body", GARBAGE, ids=range(len(GARBAGE)))
async def test_garbage_is_answered_with_an_error_and_the_server_lives(lab: Lab, body: bytes, tmp_path: Path) -> None:
    routes = (("PUT", "/api/v1/statement", OPERATOR), ("POST", "/api/v1/sync", PEER), ("PUT", COPY, SUPERNODE))
    for method, path, subject in routes:
        status, answer = await lab.call(path, method, lab.cluster.token(subject), body)
        assert 400 == status, answer
        assert answer["error"]["message"]
    assert 200 == (await lab.call("/readyz"))[0]
    assert {"volume.json", "volume.json.copy"} == {path.name for path in tmp_path.rglob("*") if path.is_file()}


@pytest.mark.parametrize("query", ["since=x", "since=-1", "wait=-1", "wait=1e9", "wait=nan", "since=" + "9" * 5000])
async def test_invalid_queries_are_refused(lab: Lab, query: str) -> None:
    assert 400 == (await lab.call(f"/api/v1/changes?{query}", token=lab.cluster.token(OPERATOR)))[0]
