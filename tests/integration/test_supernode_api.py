"""The supernode's API over real sockets: who may call what, and what garbage gets."""

import base64
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa

from pantala_process.settings import ListenAddress
from pantala_protocol import task_id
from pantala_supernode.app import App, serving
from pantala_supernode.http.access import Access
from pantala_supernode.settings import Settings

OPERATOR = "system:serviceaccount:pantala:operator"
PEER = "system:serviceaccount:pantala:peer"
SUPERNODE = "system:serviceaccount:pantala:supernode"
ISSUER = "https://issuer.example"
FRESH_VOLUME = ["volume.json"]


class Cluster:
    """An API server as far as token verification goes: it publishes keys, and we sign with them."""

    def __init__(self) -> None:
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.loads = 0

    def jwks(self) -> dict[str, Any]:
        numbers = self.key.public_key().public_numbers()

        def text(value: int) -> str:
            return base64.urlsafe_b64encode(value.to_bytes((value.bit_length() + 7) // 8, "big")).rstrip(b"=").decode()

        return {
            "keys": [
                {"kty": "RSA", "alg": "RS256", "use": "sig", "kid": "k1", "n": text(numbers.n), "e": text(numbers.e)}
            ]
        }

    def token(self, subject: str, node: str = "node1", *, kid: str = "k1", forged: bool = False, **changes: Any) -> str:
        now = int(time.time())
        claims = {"iss": ISSUER, "aud": ["pantala"], "sub": subject, "iat": now, "exp": now + 600}
        claims |= {"kubernetes.io": {"node": {"name": node}}} | changes
        return jwt.encode(claims, self.stranger if forged else self.key, algorithm="RS256", headers={"kid": kid})

    async def serve(self, app: web.Application) -> None:
        async def configuration(_request: web.Request) -> web.Response:
            return web.json_response({"issuer": ISSUER, "jwks_uri": "https://elsewhere.example/keys"})

        async def keys(_request: web.Request) -> web.Response:
            self.loads += 1
            return web.json_response(self.jwks())

        app.router.add_get("/.well-known/openid-configuration", configuration)
        app.router.add_get("/openid/v1/jwks", keys)


@pytest.fixture
async def cluster(unused_tcp_port: int) -> AsyncIterator[tuple[Cluster, str]]:
    made, app = Cluster(), web.Application()
    await made.serve(app)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", unused_tcp_port).start()
    yield made, f"http://127.0.0.1:{unused_tcp_port}"
    await runner.cleanup()


@pytest.fixture
async def node(
    tmp_path: Path, cluster: tuple[Cluster, str], unused_tcp_port_factory: Any
) -> AsyncIterator[tuple[App, str]]:
    port = unused_tcp_port_factory()
    settings = Settings(
        listen=ListenAddress("127.0.0.1", port),
        piece_listen=ListenAddress("127.0.0.1", unused_tcp_port_factory()),
        data=tmp_path / "data",
        advertise="127.0.0.1",
        trusted_operator=OPERATOR,
        trusted_peer=PEER,
        trusted_supernode=SUPERNODE,
        api_server=cluster[1],
    )
    async with serving(settings) as app:
        yield app, f"http://127.0.0.1:{port}"


async def call(url: str, method: str = "GET", token: str = "", data: bytes = b"") -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with aiohttp.ClientSession() as session, session.request(method, url, headers=headers, data=data) as answer:
        return answer.status, json.loads(await answer.read())


async def test_every_route_has_a_decision_and_only_probes_are_open(node: tuple[App, str]) -> None:
    """A1: a new route that nobody decided about fails here."""
    app, url = node
    routes = [route for route in app.api.router.routes() if route.method != "HEAD"]
    assert routes
    for route in routes:
        access = app.guard.decision(route)
        assert access is not None, f"{route.method} {route} has no decision"
        info = route.get_info()
        path = info.get("path") or info["formatter"].replace("{", "").replace("}", "")
        status, _ = await call(url + path, route.method)
        expected_open = info.get("path") in {"/healthz", "/readyz"}
        assert expected_open == (access is Access.OPEN)
        assert (status == 401) == (access is not Access.OPEN)


async def secret(_request: web.Request) -> web.Response:
    return web.Response(text="secret")


async def test_a_route_without_a_decision_is_refused(node: tuple[App, str]) -> None:
    app, _ = node
    bare = web.Application(middlewares=[app.guard.middleware])
    bare.router.add_get("/new", secret)
    runner = web.AppRunner(bare)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    assert 403 == (await call(f"http://127.0.0.1:{port}/new"))[0]
    await runner.cleanup()


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
async def test_only_the_operators_good_token_reads_changes(
    node: tuple[App, str], cluster: tuple[Cluster, str], change: dict[str, Any], expected: int
) -> None:
    _, url = node
    subject = change.pop("sub", OPERATOR)
    status, _ = await call(url + "/api/v1/changes", token=cluster[0].token(subject, **change))
    assert expected == status


@pytest.mark.parametrize(("subject", "expected"), [(SUPERNODE, 404), (OPERATOR, 403), (PEER, 403)])
async def test_only_supernodes_take_copies(
    node: tuple[App, str], cluster: tuple[Cluster, str], subject: str, expected: int
) -> None:
    url = f"{node[1]}/api/v1/copies/{task_id.compute('x')}"
    token = cluster[0].token(subject)
    assert expected == (await call(url, token=token))[0]
    assert expected == (await call(f"{url}/content?generation=g", token=token))[0]
    status, _ = await call(url, "PUT", token, b'{"url": "http://origin.example/f"}')
    assert (200 if expected == 404 else expected) == status


async def test_strangers_do_not_make_us_load_the_keys_again_and_again(
    node: tuple[App, str], cluster: tuple[Cluster, str]
) -> None:
    _, url = node
    for number in range(10):
        assert 401 == (await call(url + "/api/v1/changes", token=cluster[0].token(OPERATOR, kid=f"k{number + 5}")))[0]
    assert cluster[0].loads <= 2


async def test_a_peer_is_the_node_that_its_token_names(node: tuple[App, str], cluster: tuple[Cluster, str]) -> None:
    """A13: a token of node1 does not register as node2."""
    _, url = node
    body = json.dumps({"peer": "node2", "boot": "b", "seq": 1, "inventory": {}}).encode()
    status, answer = await call(url + "/api/v1/sync", "POST", cluster[0].token(PEER, node="node1"), body)
    assert (403, "Forbidden") == (status, answer["error"]["reason"])
    status, answer = await call(url + "/api/v1/sync", "POST", cluster[0].token(PEER, node="node2"), body)
    assert (200, 1) == (status, answer["seq"])


def files_below(root: Path) -> list[str]:
    return [path.name for path in root.rglob("*") if path.is_file()]


GARBAGE = [
    b"",
    b"{",
    b"null",
    b"[]",
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
    b"\xff\xfe",
    b"[" * 100_000,
]


@pytest.mark.parametrize("body", GARBAGE, ids=range(len(GARBAGE)))
async def test_garbage_is_answered_with_an_error_and_the_server_lives(
    node: tuple[App, str], cluster: tuple[Cluster, str], body: bytes, tmp_path: Path
) -> None:
    _, url = node
    copies = f"/api/v1/copies/{task_id.compute('x')}"
    for method, path, subject in (
        ("PUT", "/api/v1/statement", OPERATOR),
        ("POST", "/api/v1/sync", PEER),
        ("PUT", copies, SUPERNODE),
    ):
        status, answer = await call(url + path, method, cluster[0].token(subject), body)
        assert 400 == status, answer
        assert answer["error"]["message"]
    assert 200 == (await call(url + "/readyz"))[0]
    assert FRESH_VOLUME == [path.name for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize("query", ["since=x", "since=-1", "wait=-1", "wait=1e9", "wait=nan", "since=" + "9" * 5000])
async def test_wrong_queries_are_refused(node: tuple[App, str], cluster: tuple[Cluster, str], query: str) -> None:
    _, url = node
    status, _ = await call(f"{url}/api/v1/changes?{query}", token=cluster[0].token(OPERATOR))
    assert 400 == status


async def test_pieces_are_served_with_a_ticket_only(node: tuple[App, str]) -> None:
    app, _ = node
    piece_url = f"http://127.0.0.1:{app.settings.piece_listen.port}/pieces/{task_id.compute('x')}/g"
    assert (403, "TicketInvalid") == await _reason(piece_url)


async def _reason(url: str) -> tuple[int, str]:
    status, answer = await call(url)
    return status, answer["error"]["reason"]
