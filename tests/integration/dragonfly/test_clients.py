"""Dragonfly's clients and a supernode over real sockets: every client ends with the right file, whatever its traps."""

import asyncio
import contextlib
import hashlib
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from pantala_pieces.transfer.upload.heads import wrapped_path
from pantala_protocol import task_id
from pantala_protocol.statement import WantedTask
from pantala_supernode.app import serving
from pantala_supernode.dragonfly import clients, registration
from pantala_supernode.dragonfly.registration import RegistrationTimeouts
from pantala_supernode.tasks.copy import FileSource
from pantala_supernode.tasks.task import Lease
from testbed.origin import Bytes
from tests.support.dragonfly_client import Dfget, Item
from tests.support.dragonfly_stage import REGISTRATION, WAYS, DragonflyStage, P
from tests.support.eventually import eventually
from tests.support.small_disk import small_disk
from tests.support.supernode_lab import SupernodeLab, loopback


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize(("pattern", "old"), WAYS)
@pytest.mark.parametrize("size", [0, 1, P - 1, P, P + 1, 20 * P + 7])
async def test_every_way_of_a_client_ends_with_the_file(
    stage: DragonflyStage, size: int, pattern: str, old: bool, framing: str
) -> None:
    content = stage.serve(size, framing=framing)
    for _ in range(2):
        async with stage.dfget(pattern=pattern, old=old) as client:
            assert content == await client.run()
            assert hashlib.md5(content, usedforsecurity=False).hexdigest() == client.last["md5"]
            wire = client.piece_size
            assert size + 5 * max(1, -(-size // (wire - 5))) == client.last["fileLength"]
    assert size == stage.origin.body_bytes("/f")


async def test_the_length_is_told_if_it_is_known(stage: DragonflyStage) -> None:
    stage.serve(5 * P, "/known")
    stage.serve(5 * P, "/chunked", framing="chunked", rate=100_000)
    async with stage.dfget("/known") as known, stage.dfget("/chunked") as chunked:
        await known.register()
        await chunked.register()
        assert (5 * P, P + 5) == (known.length, known.piece_size)
        assert -1 == chunked.length


@pytest.mark.parametrize(("wanted_first", "size"), [(False, 4 * 1024 * 1024), (True, P)])
async def test_a_file_that_only_clients_want_has_large_pieces(tmp_path: Path, wanted_first: bool, size: int) -> None:
    async with SupernodeLab(tmp_path, dragonfly=True) as lab:
        content, url = lab.serve(5 * P), lab.origin.url("/f")
        if wanted_first:
            await lab.state(WantedTask("uid", "ns/name", task_id.compute(url), url, peers=("node-1",)))
            await lab.cached()
        async with Dfget(lab.url.removeprefix("http://"), url) as client:
            assert content == await client.run()
            assert size + 5 == client.piece_size
        assert 5 * P == lab.origin.body_bytes("/f")


async def test_a_second_client_is_served_by_the_first(stage: DragonflyStage) -> None:
    """Also when the supernode's pieces cannot be reached."""
    content = stage.serve(20 * P)
    async with stage.dfget() as first:
        await first.run()
        async with stage.dfget(reachable=lambda entry: not entry["cid"].startswith("cdnnode:")) as second:
            assert content == await second.run()
            assert {f"dfget:{first.cid}~{first.task_id}"} == set(second.providers.values())
    assert 20 * P == stage.origin.body_bytes("/f")


async def test_clients_that_run_together_share(stage: DragonflyStage) -> None:
    content = stage.serve(40 * P, rate=4_000_000)
    async with stage.dfget() as one, stage.dfget(old=True) as two, stage.dfget(pattern="cdn") as three:
        assert [content] * 3 == list(await asyncio.gather(one.run(), two.run(), three.run()))
        assert one.served + two.served > 0
    assert 40 * P == stage.origin.body_bytes("/f")


@pytest.mark.parametrize("wrong", [False, True])
async def test_a_client_with_wrong_or_no_pieces_stops_no_other(stage: DragonflyStage, wrong: bool) -> None:
    content = stage.serve(10 * P)
    async with stage.dfget() as bad:
        await bad.run()
        bad.pieces = {number: bytes(len(piece)) for number, piece in bad.pieces.items() if wrong}
        async with stage.dfget() as client, stage.dfget(old=True) as other:
            assert [content] * 2 == list(await asyncio.gather(client.run(), other.run()))


async def test_a_provider_that_went_down_is_offered_to_nobody(stage: DragonflyStage) -> None:
    stage.serve(10 * P)
    async with stage.dfget() as first:
        await first.run()
        down = f"/peer/service/down?taskId={first.task_id}&cid={first.cid}"
        assert 612 == (await first.get(down))["code"]
        async with stage.dfget() as second:
            await second.run()
            assert all(name.startswith("cdnnode:") for name in second.providers.values())
            assert all(len(name) >= 25 for name in second.providers.values())


async def test_who_only_says_503_is_no_provider(stage: DragonflyStage) -> None:
    """503 reports that the client has the piece, not that it can serve it."""
    stage.serve(P)
    async with stage.dfget() as first, stage.dfget() as second:
        await first.register()
        entry = await _first_entry(first)
        await first.pull(Item(701, 503, entry["range"], entry["cid"]))
        await second.register()
        assert (await _first_entry(second))["cid"].startswith("cdnnode:")


async def test_a_client_waits_if_the_content_changes_while_its_sums_are_computed(
    stage: DragonflyStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.serve(P)
    async with stage.dfget() as dfget:
        await dfget.register()
        client = stage.app.dragonfly._clients.get(dfget.task_id, dfget.cid)
        assert client is not None

        async def changed(task_id: str, _generation: str, _piece: int) -> str:
            stage.app.managers.progress.restart_task(task_id)
            client.generation = "former"
            raise LookupError

        monkeypatch.setattr(stage.app.dragonfly._checksums, "piece", changed)
        await dfget.pull(Item(700, 500))
        assert 602 == dfget.codes[-1]


async def test_a_client_that_has_a_piece_running_is_never_told_to_wait(stage: DragonflyStage) -> None:
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


async def test_a_pull_is_held_until_there_is_a_piece(stage: DragonflyStage) -> None:
    stage.serve(4 * P, rate=2 * P)
    async with stage.dfget() as client:
        await client.run()
        assert 602 not in client.codes


async def test_a_client_may_register_again(stage: DragonflyStage) -> None:
    """It keeps its pieces, and never gets itself as a provider."""
    content = stage.serve(8 * P)
    async with stage.dfget() as client:
        await client.run()
        assert content == await client.run()
        assert all(name.startswith("cdnnode:") for name in client.providers.values())


async def test_an_unknown_client_is_told_to_register(stage: DragonflyStage) -> None:
    async with stage.dfget() as client:
        client.task_id = task_id.compute("http://nowhere.example/")
        assert 502 == (await client.pull(Item(700, 502)))["code"]


async def test_one_address_cannot_keep_the_clients_of_others_out(
    stage: DragonflyStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "_MAX_OF_ADDRESS", 2)
    stage.origin.serve("/f", Bytes(b"honest"))
    registration = REGISTRATION | {"rawUrl": stage.origin.url("/f")}
    async with stage.dfget() as client:
        for number, code in enumerate((200, 200, 500, 500)):
            answer = await client.post("/peer/registry", registration | {"cid": f"c{number}"})
            assert code == answer["code"]
        known = stage.app.dragonfly._clients
        assert not known.is_full("10.0.0.9")
        for each in list(known):
            known.remove(each)
        assert b"honest" == await client.run()


async def test_registrations_of_many_files_take_limited_memory(
    stage: DragonflyStage, monkeypatch: pytest.MonkeyPatch
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


async def test_registrations_do_not_end_the_leases_of_other_replicas(
    stage: DragonflyStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """These leases are shorter, but a client may fetch the file from the other replica."""
    monkeypatch.setattr(registration, "_MOST_IDLE", 3)
    stage.app.dragonfly.service.registrations._timeouts = RegistrationTimeouts(registration=0.05)
    source = FileSource("http://127.0.0.1:1/elsewhere", tenants=frozenset({"@dragonfly"}))
    elsewhere = task_id.compute(source.url)
    stage.app.supernode.lease(elsewhere, Lease(source, time.monotonic() + 60))
    async with stage.dfget() as client:
        for number in range(20):
            await client.post("/peer/registry", REGISTRATION | {"rawUrl": f"http://127.0.0.1:1/{number}"})
        await eventually(lambda: len(list(stage.app.managers.tasks)) == 4)
        assert stage.app.managers.tasks.get(elsewhere) is not None


async def test_registrations_do_not_end_the_leases_of_preheats(
    stage: DragonflyStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registration, "_MOST_IDLE", 1)
    stage.app.dragonfly.service.registrations._timeouts = RegistrationTimeouts(registration=0.05)
    urls = [f"http://127.0.0.1:1/preheated-{number}" for number in range(3)]
    async with stage.dfget() as client:
        for url in urls:
            await client.post("/preheats", {"type": "file", "url": url})
        for number in range(5):
            await client.post("/peer/registry", REGISTRATION | {"rawUrl": f"http://127.0.0.1:1/{number}"})
        await eventually(lambda: len(list(stage.app.managers.tasks)) == 4)
    assert {task_id.compute(url) for url in urls} <= {task.id for task in stage.app.managers.tasks}


async def test_ten_silent_clients_do_not_hold_up_the_next(stage: DragonflyStage) -> None:
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


async def test_a_late_client_is_served_after_its_place_lapsed(stage: DragonflyStage) -> None:
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


async def test_the_wrapped_route_serves_pieces_and_nothing_else(stage: DragonflyStage) -> None:
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


async def test_what_needs_no_answer_gets_the_one_that_stops_it(stage: DragonflyStage) -> None:
    async with stage.dfget() as client:
        assert {"code": 1} == await client.post("/task/metrics", {"cID": "c", "success": True})
        assert 200 == (await client.post("/peer/heartbeat", {}))["code"]
        assert {"nodes": []} == (await client.post("/peer/network?start=0&limit=1", {"urls": []}))["data"]
        assert 612 == (await client.get("/peer/service/down?taskId=x&cid=y"))["code"]
        assert 502 == (await client.get("/peer/piece/suc?taskId=x&cid=y&dstCid=&pieceRange=0-9"))["code"]
        assert 200 == (await client.get("/peer/piece/error?errorType=FILE_NOT_EXIST&srcCid=x&taskId=y"))["code"]


async def test_files_that_all_their_clients_have_make_room_for_the_next(tmp_path: Path) -> None:
    with small_disk(tmp_path / "supernode", 16 * P):
        async with DragonflyStage(tmp_path) as stage:
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


async def _first_entry(client: Dfget) -> dict[str, Any]:
    answer = await client.pull(Item(700, 502))
    assert 601 == answer["code"]
    entry: dict[str, Any] = answer["data"][0]
    return entry
