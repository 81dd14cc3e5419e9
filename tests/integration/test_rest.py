"""Dragonfly's REST API over real sockets: answers, a download by hand, deletions and metrics."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from openapi_spec_validator import validate

from pantala_protocol import __version__, task_id
from pantala_supernode.app import serving
from testbed.origin import Behaviour, Generated
from tests.support.eventually import eventually
from tests.support.supernode_lab import SupernodeLab, loopback

P = 128 * 1024
"""The piece size of small files."""
WIRE = P + 5


class Stage(SupernodeLab):
    """A supernode, and a client of its REST API."""

    async def call(self, method: str, path: str, /, **body: Any) -> tuple[int, Any]:
        async with self.session.request(method, self.url + path, json=body or None) as answer:
            text = await answer.text()
            if answer.status == 204 or not text:
                return answer.status, None
            is_json = answer.content_type == "application/json"
            return answer.status, await answer.json() if is_json else text

    async def register(self, port: int = 15001) -> str:
        status, answer = await self.call(
            "POST", "/peers", IP="127.0.0.1", hostName="host-1", port=port, version="0.3.1"
        )
        assert 201 == status, answer
        return str(answer["ID"])

    async def task(self, cid: str = "c1", path: str = "/f", **more: Any) -> str:
        status, answer = await self.call("POST", "/tasks", cID=cid, rawURL=self.origin.url(path), path="/p/f", **more)
        assert 201 == status, answer
        return str(answer["ID"])

    async def until_answered(self, path: str, wanted: Callable[[Any], bool]) -> Any:
        """The answer, once ``wanted`` accepts it."""

        async def answer() -> tuple[Any] | None:
            _, found = await self.call("GET", path)
            return (found,) if wanted(found) else None

        return (await eventually(answer))[0]

    async def pieces(self, task: str, cid: str) -> list[dict[str, Any]]:
        """The pieces that a client may download, once there are some."""
        found: list[dict[str, Any]] = await self.until_answered(f"/tasks/{task}/pieces?clientID={cid}", bool)
        return found

    async def report(self, task: str, cid: str, result: str = "SUCCESS", pieces: str = f"0-{WIRE - 1}") -> int:
        update = {"srcCid": cid, "status": "RUNNING", "result": result}
        return (await self.call("PUT", f"/tasks/{task}/pieces/{pieces}", **update))[0]


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with Stage(tmp_path, grace=0.1, cache_seconds=3600.0, piece_size_rule="swarm") as stage:
        yield stage


async def test_the_supernode_answers_with_its_version(stage: Stage) -> None:
    assert (200, "OK") == await stage.call("GET", "/_ping")
    assert (200, {"Version": __version__}) == await stage.call("GET", "/version")


async def test_the_document_is_valid_and_names_every_route(stage: Stage) -> None:
    _, document = await stage.call("GET", "/openapi.json")
    validate(document)
    documented = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    mounted = {
        (route.method, info.get("path") or info["formatter"])
        for route in stage.app.api.router.routes()
        for info in [route.get_info()]
    }
    aliases = {(method, f"/api/v1{path}") for method, path in documented}
    assert documented <= mounted
    assert mounted <= documented | aliases


# Peers


async def test_a_peer_is_registered_shown_listed_and_deleted(stage: Stage) -> None:
    first, second = await stage.register(), await stage.register()
    assert first != second
    shown = {"ID": first, "IP": "127.0.0.1", "hostName": "host-1", "port": 15001, "version": "0.3.1"}
    assert (200, shown) == await stage.call("GET", f"/peers/{first}")
    _, listed = await stage.call("GET", "/peers?pageSize=1&pageNum=1")
    assert [second] == [peer["ID"] for peer in listed]
    assert (204, None) == await stage.call("DELETE", f"/peers/{first}")
    assert 404 == (await stage.call("DELETE", f"/peers/{first}"))[0]
    assert 404 == (await stage.call("GET", f"/peers/{first}"))[0]


async def test_keys_are_matched_in_any_case_and_numbers_may_be_text(stage: Stage) -> None:
    status, _ = await stage.call("POST", "/api/v1/peers", ip="::1", HOSTNAME="a", Port="15001")
    assert 201 == status
    _, (peer,) = await stage.call("GET", "/peers?PAGESIZE=0&sortkey=port,ID")
    assert ("::1", 15001) == (peer["IP"], peer["port"])


@pytest.mark.parametrize(
    "wrong",
    [
        {"IP": "1.2.3"},
        {"IP": ""},
        {"hostName": ""},
        {"hostName": "a b"},
        {"hostName": "a\n"},
        {"port": -1},
        {"port": 65536},
    ],
    ids=str,
)
async def test_an_invalid_peer_is_refused(stage: Stage, wrong: dict[str, Any]) -> None:
    status, answer = await stage.call("POST", "/peers", **({"IP": "127.0.0.1", "hostName": "a", "port": 1} | wrong))
    assert (400, 400) == (status, answer["code"])


@pytest.mark.parametrize(
    "query",
    ["", "pageSize=-1", "pageSize=x", "pageSize=1&pageNum=-1", "pageSize=1&sortDirect=up", "pageSize=1&sortKey=x"],
)
async def test_an_invalid_page_is_refused(stage: Stage, query: str) -> None:
    assert 400 == (await stage.call("GET", f"/peers?{query}"))[0]


# Tasks and pieces


async def test_a_file_is_downloaded_piece_by_piece(stage: Stage) -> None:
    content = stage.serve(5 * P + 7)
    peer = await stage.register()
    name = await stage.task(peerID=peer)
    assert task_id.compute(stage.origin.url("/f")) == name
    found = bytearray(len(content))
    for _ in range(20):
        _, pieces = await stage.call("GET", f"/tasks/{name}/pieces?clientID=c1&num=2")
        assert len(pieces) <= 2
        for piece in pieces:
            start = int(piece["pieceRange"].partition("-")[0]) // WIRE * P
            url = f"http://{piece['peerIP']}:{piece['peerPort']}{piece['path']}"
            async with stage.session.get(url, headers={"Range": f"bytes={piece['pieceRange']}"}) as answer:
                data = await answer.read()
            assert piece["pieceMD5"].partition(":")[0] == hashlib.md5(data, usedforsecurity=False).hexdigest()
            found[start : start + len(data) - 5] = data[4:-1]
            for _ in range(2):
                assert 200 == await stage.report(name, "c1", pieces=piece["pieceRange"])
    assert content == bytes(found)
    assert (200, None) == await stage.call("PUT", f"/tasks/{name}", peerID=peer)
    _, shown = await stage.call("GET", f"/tasks/{name}")
    assert (len(content), 6, WIRE, "SUCCESS") == tuple(
        shown[key] for key in ("fileLength", "pieceTotal", "pieceSize", "cdnStatus")
    )
    assert len(content) == stage.origin.body_bytes("/f")


async def test_a_client_becomes_a_provider_when_it_can_serve_a_piece(stage: Stage) -> None:
    stage.serve(P)
    name = await stage.task("c1", peerID=await stage.register())
    await stage.pieces(name, "c1")
    assert 200 == await stage.report(name, "c1", "SEMISUC")
    assert name == await stage.task("c2")
    (piece,) = await stage.pieces(name, "c2")
    assert piece["cID"].startswith("cdnnode:")
    assert 200 == await stage.report(name, "c2", "FAILED")
    assert 200 == await stage.report(name, "c1")
    (piece,) = await stage.pieces(name, "c2")
    assert f"dfget:c1~{name}" == piece["cID"]
    assert ("127.0.0.1", 15001, "/p/f") == (piece["peerIP"], piece["peerPort"], piece["path"])


@pytest.mark.parametrize(
    ("text", "update", "expected"),
    [
        ("0-45565", {}, 400),
        ("x", {}, 400),
        (f"0-{WIRE - 1}", {"result": "INVALID"}, 400),
        (f"0-{WIRE - 1}", {"status": "PAUSED"}, 400),
        (f"{9 * WIRE}-{10 * WIRE - 1}", {}, 404),
        (f"0-{WIRE - 1}", {"srcCid": "stranger"}, 404),
        (f"0-{WIRE - 1}", {"status": "STARTED"}, 200),
        (f"0-{WIRE - 1}", {"status": "FINISHED"}, 200),
        (f"0-{WIRE - 1}", {"status": "FINISHED", "result": "FAILED"}, 200),
    ],
)
async def test_a_report_is_accepted_or_refused(stage: Stage, text: str, update: dict[str, str], expected: int) -> None:
    stage.serve(P)
    name = await stage.task()
    report = {"srcCid": "c1", "status": "RUNNING", "result": "SUCCESS"} | update
    assert expected == (await stage.call("PUT", f"/tasks/{name}/pieces/{text}", **report))[0]


async def test_an_unknown_name_is_not_found(stage: Stage) -> None:
    stage.serve(P)
    name, peer = await stage.task(), await stage.register()
    for method, path, body in (
        ("GET", "/tasks/unknown", {}),
        ("DELETE", "/tasks/unknown", {}),
        ("PUT", "/tasks/unknown", {"peerID": peer}),
        ("PUT", f"/tasks/{name}", {"peerID": peer}),
        ("PUT", f"/tasks/{name}", {"peerID": "unknown"}),
        ("GET", "/tasks/unknown/pieces?clientID=c1", {}),
        ("GET", f"/tasks/{name}/pieces?clientID=stranger", {}),
        ("GET", "/preheats/unknown", {}),
        ("DELETE", "/preheats/unknown", {}),
        ("POST", "/tasks", {"cID": "c", "rawURL": "http://127.0.0.1/f", "peerID": "unknown"}),
    ):
        status, answer = await stage.call(method, path, **body)
        assert (404, True) == (status, bool(answer["message"])), (method, path)


async def test_an_empty_client_name_and_an_unusable_url_are_refused(stage: Stage) -> None:
    stage.serve(P)
    assert 400 == (await stage.call("GET", f"/tasks/{await stage.task()}/pieces?clientID="))[0]
    assert 400 == (await stage.call("POST", "/tasks", cID="", rawURL=stage.origin.url("/f")))[0]
    assert 400 == (await stage.call("POST", "/tasks", cID="c", rawURL="ftp://origin/f"))[0]
    stage.origin.serve("/gone", Generated(1), always=Behaviour(status=404))
    status, answer = await stage.call("POST", "/tasks", cID="c", rawURL=stage.origin.url("/gone"))
    assert (400, 607) == (status, answer["code"])


# Deletion


async def test_a_deleted_task_takes_its_downloads_along_and_on_request_its_copy(stage: Stage) -> None:
    stage.serve(P)
    for full in (False, True):
        name = await stage.task()
        await stage.until_answered(f"/tasks/{name}", lambda task: task["cdnStatus"] == "SUCCESS")
        assert 204 == (await stage.call("DELETE", f"/tasks/{name}?full={full}".lower()))[0]
        assert 404 == (await stage.call("GET", f"/tasks/{name}"))[0]
        assert 404 == (await stage.call("GET", f"/tasks/{name}/pieces?clientID=c1"))[0]
        _, peers = await stage.call("GET", "/peers?pageSize=0")
        assert [] == peers
        await asyncio.sleep(0.2)
        assert full == (not list(stage.data.rglob("journal")))
    assert P == stage.origin.body_bytes("/f")


async def test_a_deleted_peer_serves_no_client_and_its_downloads_are_removed(stage: Stage) -> None:
    stage.serve(P)
    peer = await stage.register()
    name = await stage.task("c1", peerID=peer)
    await stage.pieces(name, "c1")
    await stage.report(name, "c1")
    await stage.task("c2")
    assert [f"dfget:c1~{name}"] == [piece["cID"] for piece in await stage.pieces(name, "c2")]
    assert 204 == (await stage.call("DELETE", f"/peers/{peer}"))[0]
    assert 404 == (await stage.call("GET", f"/tasks/{name}/pieces?clientID=c1"))[0]
    (piece,) = await stage.pieces(name, "c2")
    assert piece["cID"].startswith("cdnnode:")
    assert 204 == (await stage.call("DELETE", f"/peers/dfget:c2~{name}"))[0]


# Preheats


async def test_a_preheated_file_is_cached_before_the_first_request(stage: Stage) -> None:
    stage.serve(3 * P)
    url = stage.origin.url("/f")
    status, answer = await stage.call("POST", "/preheats", type="file", url=url)
    assert (200, task_id.compute(url)) == (status, answer["ID"])
    ended = await stage.until_answered(f"/preheats/{answer['ID']}", lambda preheat: "finishTime" in preheat)
    assert "SUCCESS" == ended["status"]
    assert (200, [ended]) == await stage.call("GET", "/preheats")
    assert 409 == (await stage.call("POST", "/preheats", type="file", url=url))[0]
    await stage.task()
    assert 1 == len(stage.origin.requests("/f"))
    assert (200, None) == await stage.call("DELETE", f"/preheats/{answer['ID']}")
    assert 404 == (await stage.call("GET", f"/preheats/{answer['ID']}"))[0]


async def test_a_preheat_of_an_image_is_refused_with_an_action(stage: Stage) -> None:
    status, answer = await stage.call("POST", "/preheats", type="image", url="http://registry/v2/a/manifests/b")
    assert (400, True) == (status, "layers" in answer["message"])
    assert 400 == (await stage.call("POST", "/preheats", type="tape", url="http://origin/f"))[0]


# Metrics


def sample(text: str, name: str) -> float:
    return next(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(f"{name} "))


async def test_metrics_count_events_and_name_no_client(stage: Stage) -> None:
    stage.serve(3 * P)
    stage.origin.serve("/gone", Generated(1), always=Behaviour(status=404))
    name = await stage.task()
    await stage.until_answered(f"/tasks/{name}", lambda task: task["cdnStatus"] == "SUCCESS")
    await stage.call("POST", "/tasks", cID="c", rawURL=stage.origin.url("/gone"))
    (piece, *_) = await stage.pieces(name, "c1")
    await stage.report(name, "c1", pieces=piece["pieceRange"])
    _, text = await stage.call("GET", "/metrics")
    assert 1 == sample(text, 'pantala_tasks{cdn_status="SUCCESS"}')
    assert 3 * P == sample(text, "pantala_origin_bytes_total")
    assert P == sample(text, 'pantala_served_bytes_total{by="supernode"}')
    assert 0 == sample(text, 'pantala_served_bytes_total{by="peer"}')
    assert 1 == sample(text, 'pantala_fetch_failures_total{reason="SourceNotFound"}')
    assert 0 < sample(text, "pantala_scheduling_seconds_count")
    assert 1 <= sample(text, 'pantala_http_answers_total{status="201"}')
    for private in (name, "127.0.0.1", "c1"):
        assert private not in text


@pytest.mark.parametrize("opened", [False, True])
async def test_only_the_operator_reads_metrics_unless_they_are_open(tmp_path: Path, opened: bool) -> None:
    settings = loopback(tmp_path, no_auth=False, metrics_open=opened, api_server="http://127.0.0.1:9")
    async with serving(settings), aiohttp.ClientSession(f"http://127.0.0.1:{settings.listen.port}") as http:
        async with http.get("/metrics") as answer:
            assert (200 if opened else 401) == answer.status
        async with http.get("/peers?pageSize=0") as answer:
            assert 401 == answer.status
