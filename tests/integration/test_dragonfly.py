"""Dragonfly's clients and a supernode over real sockets: every client ends with the right file, whatever its traps."""

import asyncio
import contextlib
import hashlib
import json
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from pantala_peer.app import PeerApp
from pantala_pieces.transfer.upload.heads import wrapped_path
from pantala_protocol import task_id
from pantala_protocol.statement import Statement, WantedTask
from pantala_supernode.app import serving
from pantala_supernode.dragonfly import registration
from pantala_supernode.dragonfly.registration import RegistrationTimeouts
from testbed.origin import Behaviour, Bytes, Generated
from tests.support.dragonfly_client import Dfget, GaveUpError, Item
from tests.support.eventually import eventually
from tests.support.peer_lab import peer
from tests.support.small_disk import small_disk
from tests.support.supernode_lab import SupernodeLab, loopback

P = 128 * 1024
"""The piece size of small files, as it is cut; on the wire 5 more."""
REGISTRATION = {"rawUrl": "http://a.b/", "cid": "c", "ip": "127.0.0.1", "port": 0, "path": "/f"}
"""What a client must send at least."""


class Stage(SupernodeLab):
    """A supernode for Dragonfly's clients."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, dragonfly=True, cache_seconds=3600.0)
        self.node = self.url.removeprefix("http://")

    def dfget(self, path: str = "/f", **wishes: Any) -> Dfget:
        return Dfget(self.node, self.origin.url(path), **wishes)

    def from_supernode(self) -> int:
        """The bytes that the supernode itself sent of its file."""
        return self.app.managers.progress.tasks[task_id.compute(self.origin.url("/f"))].supernode_bytes

    def node_with_file(self, root: Path) -> AbstractAsyncContextManager[PeerApp]:
        """A node that gets the file. It fetches no more pieces at once than a client sends."""
        url = self.origin.url("/f")
        wanted = WantedTask("u", "ns/n", task_id.compute(url), url, path="f", peers=("node-1",))
        self.app.supernode.state(Statement(1, (wanted,)))
        return peer(self.url, root, downloads=4)


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with Stage(tmp_path) as stage:
        yield stage


async def code_of(giving_up: Awaitable[object]) -> int:
    """The code with which a client gives up."""
    with pytest.raises(GaveUpError) as gave_up:
        await giving_up
    return gave_up.value.code


WAYS = [("p2p", False), ("cdn", False), ("p2p", True), ("cdn", True)]


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize(("pattern", "old"), WAYS)
@pytest.mark.parametrize("size", [0, 1, P - 1, P, P + 1, 20 * P + 7])
async def test_every_way_of_a_client_ends_with_the_file(
    stage: Stage, size: int, pattern: str, old: bool, framing: str
) -> None:
    content = stage.serve(size, framing=framing)
    for _ in range(2):
        async with stage.dfget(pattern=pattern, old=old) as client:
            assert content == await client.run()
            assert hashlib.md5(content, usedforsecurity=False).hexdigest() == client.last["md5"]
            wire = client.piece_size
            assert size + 5 * max(1, -(-size // (wire - 5))) == client.last["fileLength"]
    assert size == stage.origin.body_bytes("/f")


async def test_the_length_is_told_if_it_is_known(stage: Stage) -> None:
    stage.serve(5 * P, "/known")
    stage.serve(5 * P, "/chunked", framing="chunked", rate=100_000)
    async with stage.dfget("/known") as known, stage.dfget("/chunked") as chunked:
        await known.register()
        await chunked.register()
        assert (5 * P, P + 5) == (known.length, known.piece_size)
        assert -1 == chunked.length


async def test_a_second_client_is_served_by_the_first(stage: Stage) -> None:
    """Also when the supernode's pieces cannot be reached."""
    content = stage.serve(20 * P)
    async with stage.dfget() as first:
        await first.run()
        async with stage.dfget(reachable=lambda entry: not entry["cid"].startswith("cdnnode:")) as second:
            assert content == await second.run()
            assert {f"dfget:{first.cid}~{first.task_id}"} == set(second.providers.values())
    assert 20 * P == stage.origin.body_bytes("/f")


async def test_clients_that_run_together_share(stage: Stage) -> None:
    content = stage.serve(40 * P, rate=4_000_000)
    async with stage.dfget() as one, stage.dfget(old=True) as two, stage.dfget(pattern="cdn") as three:
        assert [content] * 3 == list(await asyncio.gather(one.run(), two.run(), three.run()))
        assert one.served + two.served > 0
    assert 40 * P == stage.origin.body_bytes("/f")


@pytest.mark.parametrize("wrong", [False, True])
async def test_a_client_with_wrong_or_no_pieces_stops_no_other(stage: Stage, wrong: bool) -> None:
    content = stage.serve(10 * P)
    async with stage.dfget() as bad:
        await bad.run()
        bad.pieces = {number: bytes(len(piece)) for number, piece in bad.pieces.items() if wrong}
        async with stage.dfget() as client, stage.dfget(old=True) as other:
            assert [content] * 2 == list(await asyncio.gather(client.run(), other.run()))


async def test_a_provider_that_went_down_is_offered_to_nobody(stage: Stage) -> None:
    stage.serve(10 * P)
    async with stage.dfget() as first:
        await first.run()
        down = f"/peer/service/down?taskId={first.task_id}&cid={first.cid}"
        assert 612 == (await first.get(down))["code"]
        async with stage.dfget() as second:
            await second.run()
            assert all(name.startswith("cdnnode:") for name in second.providers.values())
            assert all(len(name) >= 25 for name in second.providers.values())


async def test_who_only_says_503_is_no_provider(stage: Stage) -> None:
    """503 reports that the client has the piece, not that it can serve it."""
    stage.serve(P)
    async with stage.dfget() as first, stage.dfget() as second:
        await first.register()
        entry = await _first_entry(first)
        await first.pull(Item(701, 503, entry["range"], entry["cid"]))
        await second.register()
        assert (await _first_entry(second))["cid"].startswith("cdnnode:")


async def test_a_client_that_has_a_piece_running_is_never_told_to_wait(stage: Stage) -> None:
    """Old clients do not read their own queue while they wait."""
    stage.serve(2 * P)
    async with stage.dfget() as client:
        await client.register()
        while len((await client.pull(Item(700, 502)))["data"]) < 2:
            pass  # until both pieces are cached
        answers = [await client.pull(Item(700, 502)) for _ in range(3)]
        assert [601] * 3 == [answer["code"] for answer in answers]
        ranges = sorted(entry["range"] for entry in answers[0]["data"])
        assert all(ranges == sorted(entry["range"] for entry in answer["data"]) for answer in answers)


async def test_a_pull_is_held_until_there_is_a_piece(stage: Stage) -> None:
    stage.serve(4 * P, rate=2 * P)
    async with stage.dfget() as client:
        await client.run()
        assert 602 not in client.codes


async def test_a_client_may_register_again(stage: Stage) -> None:
    """It keeps its pieces, and never gets itself as a provider."""
    content = stage.serve(8 * P)
    async with stage.dfget() as client:
        await client.run()
        assert content == await client.run()
        assert all(name.startswith("cdnnode:") for name in client.providers.values())


async def test_an_unknown_client_is_told_to_register(stage: Stage) -> None:
    async with stage.dfget() as client:
        client.task_id = task_id.compute("http://nowhere.example/")
        assert 502 == (await client.pull(Item(700, 502)))["code"]


@pytest.mark.parametrize(
    ("status", "dfdaemon", "code"),
    [
        *((404, False, 607), (401, False, 607), (401, True, 608)),
        *((403, True, 607), (407, False, 607), (407, True, 608)),
    ],
)
async def test_a_refusal_of_the_origin_is_told(stage: Stage, status: int, dfdaemon: bool, code: int) -> None:
    stage.serve(P, status=status)
    async with stage.dfget(dfdaemon=dfdaemon) as client:
        assert code == await code_of(client.register())


async def test_an_origin_that_refused_is_not_asked_for_each_client_again(stage: Stage) -> None:
    body = Bytes(b"there now")
    stage.origin.serve("/f", body, script=[Behaviour(status=404)])
    for _ in range(3):
        async with stage.dfget() as client:
            assert 607 == await code_of(client.register())
    assert 1 == len(stage.origin.requests("/f"))
    stage.app.dragonfly.service.registrations._tried.clear()
    async with stage.dfget() as client:
        assert body.data == await client.run()


async def test_who_is_to_ask_again_is_told_what_is_in_the_way(stage: Stage) -> None:
    stage.app.dragonfly.service.registrations._timeouts = RegistrationTimeouts(registration=0.5)
    async with stage.dfget() as client:
        answer = await client.post("/peer/registry", REGISTRATION | {"rawUrl": "http://127.0.0.1:1/f"})
    assert (609, True) == (answer["code"], "http://127.0.0.1:1/… refused the connection" in answer["msg"])


async def test_clients_that_register_ever_more_files_take_no_more_memory(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registration, "_MOST_IDLE", 3)
    stage.app.dragonfly.service.registrations._timeouts = RegistrationTimeouts(registration=0.05)
    stage.origin.serve("/f", Bytes(b"honest"))
    async with stage.dfget() as client:
        await client.register()
        for number in range(20):
            await client.post("/peer/registry", REGISTRATION | {"rawUrl": f"http://127.0.0.1:1/{number}"})
        await eventually(lambda: len(list(stage.app.managers.tasks)) == 4)
        await eventually(lambda: len(list(stage.app.supernode._cdn.copies)) == 4)
        assert b"honest" == await client.run()


async def test_a_slow_origin_is_waited_for(stage: Stage) -> None:
    """Each answer comes within the client's 5 s. The client asks again after 609."""
    content = stage.serve(P, delay=5.0)
    async with stage.dfget() as client:
        began_at = time.monotonic()
        assert 609 == await code_of(client.register(tries=1))
        assert time.monotonic() - began_at < 4.8
        assert content == await client.run()
    assert P == stage.origin.body_bytes("/f")


async def test_ten_silent_clients_do_not_hold_up_the_next(stage: Stage) -> None:
    """They take all places of the supernode and fetch nothing. Each pull is held for at most 1.5 s."""
    content = stage.serve(20 * P)
    async with contextlib.AsyncExitStack() as stack:
        silent = [await stack.enter_async_context(stage.dfget()) for _ in range(10)]
        for client in silent:
            await client.register()
        answers = await asyncio.gather(*(client.pull(Item(700, 502)) for client in silent))
        assert {601, 602} == {answer["code"] for answer in answers}
        client = await stack.enter_async_context(stage.dfget())
        await client.register()
        codes = [(await client.pull(Item(700, 502)))["code"] for _ in range(2)]
        assert 601 in codes
        assert content == await client.run()


async def test_a_late_client_is_served_after_its_place_lapsed(stage: Stage) -> None:
    content = stage.serve(4 * P)
    async with stage.dfget() as late, stage.dfget(pattern="cdn") as other:
        assert content == await other.run()
        await late.register()
        entries = (await late.pull(Item(700, 502)))["data"]
        task = stage.app.managers.progress.tasks[late.task_id]
        name = f"dfget:{late.cid}~{late.task_id}"
        await eventually(lambda: task.peers[name].lapsed, within=10)
        parts = [await late.fetch(entry) for entry in entries]
        assert sorted(parts) == sorted(content[number * P : (number + 1) * P] for number in range(4))
        await eventually(lambda: not task.peers[name].lapsed, within=10)
        for entry in entries:
            await late.pull(Item(701, 503, entry["range"], entry["cid"]))
        assert 600 == late.codes[-1]


async def test_a_file_with_another_md5_never_finishes(stage: Stage) -> None:
    content = stage.serve(2 * P)
    right = hashlib.md5(content, usedforsecurity=False).hexdigest()
    async with stage.dfget(md5="0" * 32) as wrong, stage.dfget(md5=right) as client:
        assert 604 == await code_of(wrong.run())
        assert 600 not in wrong.codes
        assert content == await client.run()


async def test_old_and_new_content_are_never_mixed(stage: Stage) -> None:
    """A client with pieces of the former content cannot continue, also after another registration."""
    old, new = Generated(10 * P, seed=1), Bytes(b"new" * 4 * P)
    stage.origin.serve("/f", old, script=[Behaviour(reset_after=4 * P), Behaviour(replace=new)])
    async with stage.dfget() as client:
        assert [604] * 2 == [await code_of(client.run()), await code_of(client.register())]
    async with stage.dfget() as later:
        assert new.data == await later.run()


async def test_credentials_part_the_tasks(stage: Stage) -> None:
    body = Bytes(b"secret")
    stage.origin.serve("/f", body, always=Behaviour(require={"authorization": "Bearer a"}))
    async with stage.dfget(headers=("Authorization: Bearer a", "User-Agent: x")) as client, stage.dfget() as stranger:
        assert body.data == await client.run()
        assert 607 == await code_of(stranger.run())


async def test_the_wrapped_route_serves_pieces_and_nothing_else(stage: Stage) -> None:
    content = stage.serve(P + 1)
    async with stage.dfget() as client:
        await client.run()
        await client.register()
        entry = await _first_entry(client)
        base, path = f"http://127.0.0.1:{entry['peerPort']}", entry["path"]

        async def ask(path: str, text: str) -> tuple[int, bytes]:
            async with client.http.get(base + path, headers={"Range": text} if text else {}) as answer:
                return answer.status, await answer.read()

        wire = P + 5
        last = (1 | wire << 4).to_bytes(4, "big") + content[P:] + b"\x7f"
        assert (206, last) == await ask(path, f"bytes={wire}-{2 * wire - 1}")
        assert 404 == (await ask(path, f"bytes={2 * wire}-{3 * wire - 1}"))[0]
        assert [416] * 4 == [(await ask(path, text))[0] for text in ("", "bytes=0-9", "x=0-9", "bytes=-5")]
        _, _, ticket, name, generation = path.split("/")
        assert 403 == (await ask(wrapped_path(ticket[:-1] + "x", name, generation), "bytes=0-9"))[0]
        assert 403 == (await ask(wrapped_path(ticket, name[::-1], generation), "bytes=0-9"))[0]


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        json.dumps(REGISTRATION | {"rawUrl": "file:///etc/passwd"}).encode(),
        json.dumps(REGISTRATION | {"cid": ""}).encode(),
        json.dumps(REGISTRATION | {"ip": "10.0.0.256"}).encode(),
        json.dumps(REGISTRATION | {"port": 10**30}).encode(),
        json.dumps(REGISTRATION | {"path": ""}).encode(),
        json.dumps(REGISTRATION | {"md5": "A" * 32}).encode(),
        json.dumps(REGISTRATION | {"headers": ["A: b\r\nC: d"]}).encode(),
        b'{"rawUrl":"http://a.b/\xff","cid":"c"}',
    ],
)
async def test_garbage_is_a_bad_parameter(stage: Stage, body: bytes) -> None:
    async with aiohttp.ClientSession() as http, http.post(f"http://{stage.node}/peer/registry", data=body) as answer:
        assert (200, 501) == (answer.status, (await answer.json())["code"])


@pytest.mark.parametrize(
    "query",
    [
        "",
        "status=x",
        "status=701&result=502",
        "status=701&result=503&range=-5-3",
        "status=701&result=503&range=0-0",
        "status=701&result=503&range=99999999999999999-999999999999999999",
        f"status=701&result=503&range={100 * (P + 5)}-{101 * (P + 5) - 1}",
    ],
)
async def test_a_garbled_pull_is_a_bad_parameter(stage: Stage, query: str) -> None:
    stage.serve(P)
    async with stage.dfget() as client:
        await client.register()
        answer = await client.get(f"/peer/task?srcCid={client.cid}&taskId={client.task_id}&{query}")
        assert 501 == answer["code"]


async def test_keys_come_in_any_case_and_numbers_as_text(stage: Stage) -> None:
    stage.serve(P)
    async with stage.dfget() as client:
        body = {"RAWURL": client.url, "taskurl": client.url, "cID": client.cid, "IP": "127.0.0.1", "Port": "15000"}
        body["PATH"] = client.path
        answer = await client.post("/v1.2/peer/registry", body)
        assert (200, P) == (answer["code"], answer["data"]["fileLength"])
        assert task_id.compute(client.url) == answer["data"]["taskId"]


@pytest.mark.parametrize(
    ("typed", "path"), [("/文件 名?q=文", "/%E6%96%87%E4%BB%B6%20%E5%90%8D"), ("/a%20b", "/a%20b")]
)
async def test_a_url_is_asked_for_as_the_origin_expects_it(stage: Stage, typed: str, path: str) -> None:
    content = stage.serve(P, path)
    async with stage.dfget(typed) as client:
        assert content == await client.run()


async def test_the_origin_gets_header_names_in_the_user_s_spelling(stage: Stage) -> None:
    stage.serve(P)
    async with stage.dfget(headers=("X-toKEN: a", "authorization: Basic b")) as client:
        await client.run()
    assert {"X-toKEN", "authorization"} <= set(stage.origin.requests("/f")[0].names)


async def test_what_needs_no_answer_gets_the_one_that_stops_it(stage: Stage) -> None:
    async with stage.dfget() as client:
        assert {"code": 1} == await client.post("/task/metrics", {"cID": "c", "success": True})
        assert 200 == (await client.post("/peer/heartbeat", {}))["code"]
        assert {"nodes": []} == (await client.post("/peer/network?start=0&limit=1", {"urls": []}))["data"]
        assert 612 == (await client.get("/peer/service/down?taskId=x&cid=y"))["code"]
        assert 502 == (await client.get("/peer/piece/suc?taskId=x&cid=y&dstCid=&pieceRange=0-9"))["code"]
        assert 200 == (await client.get("/peer/piece/error?errorType=FILE_NOT_EXIST&srcCid=x&taskId=y"))["code"]


async def test_files_that_all_their_clients_have_make_room_for_the_next(tmp_path: Path) -> None:
    with small_disk(tmp_path / "supernode", 16 * P):
        async with Stage(tmp_path) as stage:
            for number in range(6):
                content = stage.serve(5 * P - number, f"/{number}")
                async with stage.dfget(f"/{number}") as client:
                    await client.register(tries=10)
                    assert content == await client.run()
            async with stage.dfget("/5") as client:
                await client.run()
            assert 5 * P - 5 == stage.origin.body_bytes("/5")


async def test_nothing_is_mounted_unless_it_is_enabled(tmp_path: Path) -> None:
    settings = loopback(tmp_path)
    async with serving(settings), aiohttp.ClientSession() as http:
        async with http.get(f"http://127.0.0.1:{settings.listen.port}/peer/task") as answer:
            assert 404 == answer.status
        async with http.get(f"http://127.0.0.1:{settings.piece_listen.port}/wrapped/a/b/c") as answer:
            assert 403 == answer.status, "a valid ticket opens this route"


# One swarm of peers and clients

Q = 1024 * 1024
"""The piece size of a file whose length is not known."""
SIZE = 30 * P + 11


async def published(root: Path) -> bytes:
    """The file on the node, once it exists."""
    path = root / "files" / "f"
    await eventually(path.exists, within=30)
    return path.read_bytes()


@pytest.mark.parametrize("wrong", [False, True])
async def test_a_peer_downloads_from_a_client(stage: Stage, tmp_path: Path, wrong: bool) -> None:
    """Only the client sends the peer its pieces. The peer verifies them, so wrong bytes harm no peer."""
    content = stage.serve(SIZE)
    async with stage.dfget() as client:
        assert content == await client.run()
        if wrong:
            client.pieces = {number: bytes(len(piece)) for number, piece in client.pieces.items()}
        async with stage.node_with_file(tmp_path / "peer"):
            assert content == await published(tmp_path / "peer")
    assert wrong or (SIZE, 31) == (stage.from_supernode(), client.served)
    assert SIZE == stage.origin.body_bytes("/f")


async def test_a_client_downloads_from_a_peer(stage: Stage, tmp_path: Path) -> None:
    content = stage.serve(SIZE)
    async with stage.node_with_file(tmp_path / "peer"):
        assert content == await published(tmp_path / "peer")
        for old in (False, True):
            async with stage.dfget(
                old=old, pattern="cdn", reachable=lambda entry: entry["cid"].startswith("peer:node-1~")
            ) as client:
                assert content == await client.run()
    assert SIZE == stage.origin.body_bytes("/f")


async def test_peers_and_clients_read_the_origin_once(stage: Stage, tmp_path: Path) -> None:
    content = stage.serve(SIZE, rate=SIZE / 2)
    async with stage.node_with_file(tmp_path / "peer"), stage.dfget() as one, stage.dfget(old=True) as two:
        assert [content] * 3 == await asyncio.gather(one.run(), two.run(), published(tmp_path / "peer"))
    assert SIZE == stage.origin.body_bytes("/f")


@pytest.mark.parametrize("later", ["chunked", "length"])
@pytest.mark.parametrize("end", ["close_after", "reset_after"])
@pytest.mark.parametrize("cut", [0, 1, Q // 2, Q - 1, Q, Q + 1, 3 * Q + 1, 5 * Q + 6, 5 * Q + 7])
@pytest.mark.parametrize("old", [False, True])
async def test_a_chunked_body_that_is_cut_once_is_resumed(
    stage: Stage, cut: int, end: str, later: str, *, old: bool
) -> None:
    size = 5 * Q + 7
    body = Generated(size, seed=1)
    broken = Behaviour(framing="chunked", rate=50_000_000, validators="etag", **{end: cut})  # type: ignore[arg-type]
    stage.origin.serve("/f", body, script=[broken], always=Behaviour(framing=later, validators="etag"))  # type: ignore[arg-type]
    async with stage.dfget(old=old) as client:
        assert body.read(0, size) == await client.run()
    _, again = stage.origin.requests("/f")
    start = int(again.range.removeprefix("bytes=").removesuffix("-") or 0)
    assert start <= cut
    assert end == "reset_after" or start == max(0, cut - 1)  # a reset may discard bytes that the kernel has received
    assert size - start == again.sent


async def _first_entry(client: Dfget) -> dict[str, Any]:
    answer = await client.pull(Item(700, 502))
    assert 601 == answer["code"]
    entry: dict[str, Any] = answer["data"][0]
    return entry
