"""A replica copies from another one that lies, refuses or stops. Its own copy is right in the end."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web

from pantala_protocol import task_id
from pantala_protocol.statement import Member, Membership, TaskReport, WantedTask
from pantala_supernode.errors import ReplicaError
from pantala_supernode.replicas import client, source
from testbed.origin import Generated
from tests.support.dragonfly_client import Dfget
from tests.support.eventually import eventually
from tests.support.supernode_lab import SupernodeLab
from tests.support.web_server import web_server

BODY = Generated(1024 * 1024 + 5)
PIECE = 128 * 1024
CONTENT = BODY.read(0, BODY.size)
DIGEST = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
TASK, OTHER = task_id.compute("x"), task_id.compute("y")


class Liar:
    """The routes of another replica. It answers what the test sets."""

    def __init__(self, **report: Any) -> None:
        self.answer: dict[str, Any] = {"task_id": TASK, "stage": "idle", "whole": True, "generation": "g"}
        self.answer |= {"piece_size": PIECE, "length": BODY.size, "digest": DIGEST, "etag": f'"{BODY.etag}"'} | report
        self.content = CONTENT
        self.stop_at: int | None = None
        self.status = 200
        self.hang = False
        self.tokens: list[str] = []
        self.starts: list[int] = []
        self.methods: list[str] = []
        self.after_order: dict[str, Any] = {}
        """Added to the answer after a request to fetch the file."""
        self.slow = 0.0
        """Seconds before the body."""

    async def report(self, request: web.Request) -> web.Response:
        self.tokens.append(request.headers.get("Authorization", ""))
        self.methods.append(request.method)
        if request.method == "PUT":
            self.answer |= self.after_order
        if self.hang:
            await asyncio.sleep(60)
        return web.json_response(self.answer, status=self.status)

    async def send(self, request: web.Request) -> web.StreamResponse:
        start = int(request.query["start"])
        self.starts.append(start)
        body = self.content[start : int(request.query.get("end", len(self.content)))]
        response = web.StreamResponse()
        response.content_length = len(body)
        await response.prepare(request)
        await asyncio.sleep(self.slow)
        if self.slow:
            self.status, self.answer["whole"] = 500, True
            asyncio.get_running_loop().call_later(0.5, setattr, self, "status", 200)
        await response.write(body if self.stop_at is None else body[: max(self.stop_at - start, 0)])
        if self.stop_at is not None:
            await asyncio.sleep(0.3)  # bytes that are not read before the disconnect are lost
            self.answer = {"task_id": TASK, "stage": "copying"}
            assert request.transport is not None
            request.transport.close()
        return response


class Lab(SupernodeLab):
    """The replica under test, and the members."""

    members: tuple[Member, ...]

    async def want(self, task: str = TASK, *, owner: str = "own") -> None:
        wanted = WantedTask("u", "ns/u", task, self.origin.url("/file"))
        members = tuple(msgspec.structs.replace(member, leaving=member.name != owner) for member in self.members)
        await self.state(wanted, membership=Membership(1, members), member="own")

    async def whole(self) -> TaskReport:
        report = await self.cached()
        file = self.app.store.get(report.task_id)
        assert file is not None
        assert (DIGEST, CONTENT) == (report.digest, file.path.read_bytes())
        return report


@pytest.fixture
def liar() -> Liar:
    return Liar()


@pytest.fixture
async def lab(liar: Liar, tmp_path: Path) -> AsyncIterator[Lab]:
    routes = (
        web.get("/api/v1/copies/{task}", liar.report),
        web.put("/api/v1/copies/{task}", liar.report),
        web.get("/api/v1/copies/{task}/content", liar.send),
    )
    (tmp_path / "token").write_text("first\n")
    async with web_server(*routes) as port, Lab(tmp_path, token_file=tmp_path / "token", dragonfly=True) as lab:
        lab.origin.serve("/file", BODY)
        lab.members = (Member("own", lab.url), Member("other", f"http://127.0.0.1:{port}", leaving=True))
        yield lab


async def test_a_right_copy_is_taken_with_the_current_token(lab: Lab, liar: Liar) -> None:
    await lab.want()
    await lab.whole()
    assert (0, {"Bearer first"}) == (lab.origin.body_bytes("/file"), set(liar.tokens))
    assert lab.app.settings.token_file is not None
    lab.app.settings.token_file.write_text("second")
    liar.tokens.clear()
    lab.app.events.piece_accused.publish(TASK, 0)  # an accusation without a wrong piece
    file = lab.app.store.get(TASK)
    assert file is not None
    with file.path.open("r+b") as data:
        data.write(b"wrong")
    lab.app.events.piece_accused.publish(TASK, 0)
    await eventually(lambda: liar.tokens)
    await lab.whole()
    assert {"Bearer second"} == set(liar.tokens)


@pytest.mark.parametrize("stage", ["idle", "reading"])
async def test_wrong_bytes_are_replaced_by_the_origins(lab: Lab, liar: Liar, stage: str) -> None:
    liar.content = CONTENT[:-1] + b"?"
    liar.answer["stage"] = stage
    await lab.want()
    report = await lab.whole()
    assert BODY.size == lab.origin.body_bytes("/file") == report.origin_bytes
    assert [0] == liar.starts, "the replica with the wrong bytes is not asked again"


async def test_if_the_other_replica_stops_the_origin_sends_only_the_rest(lab: Lab, liar: Liar) -> None:
    liar.stop_at = 3 * PIECE + 7
    await lab.want()
    await lab.whole()
    assert [f"bytes={3 * PIECE}-"] == [access.range for access in lab.origin.requests("/file")]


async def test_the_pieces_of_a_replica_stay_although_the_blob_has_another_repository_here(lab: Lab, liar: Liar) -> None:
    whole = liar.answer | {"origins": ["registry.example/other"]}
    liar.answer, liar.stop_at = whole, 3 * PIECE + 7

    async def recover() -> None:
        await eventually(lambda: liar.answer is not whole)
        liar.answer, liar.stop_at = whole, None

    await lab.state(membership=Membership(1, lab.members), member="own")
    recovering = asyncio.create_task(recover())
    wanted = client.SourceRequest(lab.origin.url("/file"), digest=DIGEST, origin="registry.example/app")
    lab.app.copies.want(TASK, wanted)
    await eventually(lambda: lab.app.copies.report(TASK).whole)
    await recovering
    assert [0, 3 * PIECE] == liar.starts
    assert 0 == lab.origin.body_bytes("/file")


@pytest.mark.parametrize(
    "wrong",
    [
        {"generation": ""},
        {"piece_size": 0},
        {"stage": "nonsense"},
        {"cached": "9-1", "whole": False},
        {"digest": "sha256:short"},
        {"whole": False, "stage": "copying"},
    ],
    ids=str,
)
async def test_an_invalid_report_is_ignored(lab: Lab, liar: Liar, wrong: dict[str, Any]) -> None:
    liar.answer |= wrong
    await lab.want()
    await lab.whole()


@pytest.mark.parametrize("status", [401, 403, 404, 409, 500, 302])
async def test_a_replica_that_refuses_is_skipped(lab: Lab, liar: Liar, status: int) -> None:
    liar.status = status
    await lab.want()
    await lab.whole()
    assert BODY.size == lab.origin.body_bytes("/file")


@pytest.fixture
def short_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the usual time for a report, and half of the usual pause after a failure."""
    monkeypatch.setattr(client, "_REPORT_TIMEOUT", aiohttp.ClientTimeout(total=1.0))
    monkeypatch.setattr(client, "_SILENCE", 1.0)


@pytest.mark.usefixtures("short_timeouts")
async def test_a_replica_that_hangs_is_asked_three_times_and_then_skipped(lab: Lab, liar: Liar) -> None:
    liar.hang = True
    begun = time.monotonic()
    await lab.want()
    await lab.whole()
    assert 4 < time.monotonic() - begun < 10
    assert 3 == len(liar.tokens)
    begun = time.monotonic()
    await lab.want(OTHER)
    await lab.whole()
    assert time.monotonic() - begun < 3


@pytest.mark.usefixtures("short_timeouts")
async def test_a_replica_that_was_busy_sends_its_copy(lab: Lab, liar: Liar) -> None:
    liar.hang = True
    await lab.want()
    await eventually(lambda: liar.tokens)
    liar.hang = False
    await lab.whole()
    assert 0 == lab.origin.body_bytes("/file")


async def test_a_dragonfly_client_is_answered_in_time_while_another_replica_hangs(lab: Lab, liar: Liar) -> None:
    liar.hang = True
    await lab.want()
    url = lab.app.settings.listen
    async with Dfget(f"{url.host}:{url.port}", lab.origin.url("/file")) as client:
        assert CONTENT == await client.run()


IDLE = {"stage": "idle", "whole": False, "generation": "", "piece_size": 0, "length": None, "digest": ""}


@pytest.mark.parametrize(
    "after_order", [{}, {"failure": {"reason": "VolumeFull", "message": "No room"}}], ids=["idle", "without room"]
)
async def test_an_owner_that_cannot_get_the_file_is_skipped(
    lab: Lab, liar: Liar, monkeypatch: pytest.MonkeyPatch, after_order: dict[str, Any]
) -> None:
    monkeypatch.setattr(source, "_IDLE", 0.3)
    liar.answer |= IDLE
    liar.after_order = after_order
    await lab.want(owner="other")
    await lab.whole()
    assert "PUT" in liar.methods
    assert BODY.size == lab.origin.body_bytes("/file")


async def test_the_order_to_an_owner_is_repeated(lab: Lab, liar: Liar, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "_RENEWAL", 0.1)
    whole = {key: liar.answer[key] for key in IDLE}
    liar.answer |= IDLE
    liar.after_order, liar.slow = whole, 0.5
    await lab.want(owner="other")
    await lab.whole()
    assert liar.methods.count("PUT") > 3
    assert 0 == lab.origin.body_bytes("/file")


async def test_a_leaving_replica_is_asked_although_it_was_silent(liar: Liar) -> None:
    """It may just have started when it did not answer, and may end before it is asked again."""
    cuts = [True, True]  # the client sends the request twice

    async def report(request: web.Request) -> web.Response:
        if cuts and cuts.pop():
            assert request.transport is not None
            request.transport.close()
        return await liar.report(request)

    async with web_server(web.get("/api/v1/copies/{task}", report)) as port, aiohttp.ClientSession() as session:
        asking = client.ReplicaClient(session, None, clock=lambda: 0.0)
        staying, leaving = (Member("other", f"http://127.0.0.1:{port}", leaving=each) for each in (False, True))
        for why in ("did not answer: ", "did not answer a moment ago"):
            with pytest.raises(ReplicaError, match=why):
                await asking.report(staying, TASK)
        found = await asking.report(leaving, TASK)
        assert found is not None
        assert found.whole
        assert await asking.report(staying, TASK) is not None


async def test_a_leaving_replica_that_is_down_is_asked_only_once_more() -> None:
    """Otherwise, each file would wait for its time limit, and keep requests to other replicas waiting."""
    async with aiohttp.ClientSession() as session:
        asking = client.ReplicaClient(session, None, clock=lambda: 0.0)
        staying, leaving = (Member("other", "http://127.0.0.1:1", leaving=each) for each in (False, True))
        for replica, why in (
            (staying, "did not answer: "),
            (leaving, "did not answer: "),
            (leaving, "did not answer a moment ago"),
        ):
            with pytest.raises(ReplicaError, match=why):
                await asking.report(replica, TASK)
