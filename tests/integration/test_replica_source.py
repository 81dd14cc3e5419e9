"""A supernode beside another one that lies, refuses, or stops: what it has in the end is right all the same."""

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
from pantala_protocol.statement import CDNStatus, Member, Membership, Statement, TaskReport, WantedTask
from pantala_supernode.app import App, serving
from pantala_supernode.replicas import client, source
from testbed.origin import Generated, Origin
from tests.support.dragonfly_client import Dfget
from tests.support.eventually import eventually
from tests.support.supernode_lab import loopback

BODY = Generated(1024 * 1024 + 5)
PIECE = 128 * 1024
CONTENT = BODY.read(0, BODY.size)
DIGEST = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
TASK, OTHER = task_id.compute("x"), task_id.compute("y")


class Liar:
    """The routes of another supernode, which says and gives what it is told to."""

    def __init__(self, **said: Any) -> None:
        self.said: dict[str, Any] = {"task_id": TASK, "stage": "idle", "whole": True, "generation": "g"}
        self.said |= {"piece_size": PIECE, "length": BODY.size, "digest": DIGEST, "etag": f'"{BODY.etag}"'} | said
        self.content = CONTENT
        self.stop_at: int | None = None
        self.status = 200
        self.hang = False
        self.tokens: list[str] = []
        self.starts: list[int] = []
        self.asked: list[str] = []
        self.after_wish: dict[str, Any] = {}
        """What it says once it is to fetch the file for another."""
        self.slow = 0.0
        """Seconds before its body."""

    async def report(self, request: web.Request) -> web.Response:
        self.tokens.append(request.headers.get("Authorization", ""))
        self.asked.append(request.method)
        if request.method == "PUT":
            self.said |= self.after_wish
        if self.hang:
            await asyncio.sleep(60)
        return web.json_response(self.said, status=self.status)

    async def give(self, request: web.Request) -> web.StreamResponse:
        start = int(request.query["start"])
        self.starts.append(start)
        body = self.content[start : int(request.query.get("end", len(self.content)))]
        response = web.StreamResponse()
        response.content_length = len(body)
        await response.prepare(request)
        await asyncio.sleep(self.slow)
        if self.slow:
            self.status, self.said["whole"] = 500, True
            asyncio.get_running_loop().call_later(0.5, setattr, self, "status", 200)
        await response.write(body if self.stop_at is None else body[: max(self.stop_at - start, 0)])
        if self.stop_at is not None:
            await asyncio.sleep(0.3)  # what is not read when the connection breaks is lost
            self.said = {"task_id": TASK, "stage": "copying"}
            assert request.transport is not None
            request.transport.close()
        return response


class Lab:
    """One supernode, the liar and the origin."""

    def __init__(self, app: App, origin: Origin, members: tuple[Member, ...]) -> None:
        self.app = app
        self.origin = origin
        self.members = members

    def state(self, task: str = TASK, *, owner: str = "own") -> None:
        wanted = WantedTask("u", "ns/u", task, self.origin.url("/file"))
        members = tuple(msgspec.structs.replace(member, leaving=member.name != owner) for member in self.members)
        self.app.supernode.state(Statement(1, (wanted,), Membership(1, members), "own"))

    async def whole(self) -> TaskReport:

        def done() -> TaskReport | None:
            report = self.app.feed.task("u")
            return report if report is not None and report.cdn_status is CDNStatus.SUCCESS else None

        report = await eventually(done)
        file = self.app.store.get(report.task_id)
        assert file is not None
        assert (DIGEST, CONTENT) == (report.digest, file.path.read_bytes())
        return report


@pytest.fixture
def liar() -> Liar:
    return Liar()


@pytest.fixture
async def lab(liar: Liar, tmp_path: Path) -> AsyncIterator[Lab]:
    routes = web.Application()
    routes.router.add_get("/api/v1/copies/{task}", liar.report)
    routes.router.add_put("/api/v1/copies/{task}", liar.report)
    routes.router.add_get("/api/v1/copies/{task}/content", liar.give)
    runner = web.AppRunner(routes, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    (tmp_path / "token").write_text("first\n")
    settings = loopback(tmp_path / "data", token_file=tmp_path / "token", dragonfly=True)
    other = Member("other", f"http://127.0.0.1:{runner.addresses[0][1]}", leaving=True)
    async with Origin() as origin, serving(settings) as app:
        origin.serve("/file", BODY)
        own = Member("own", f"http://127.0.0.1:{settings.listen.port}")
        yield Lab(app, origin, (own, other))
    await runner.cleanup()


async def test_a_right_copy_is_taken_with_the_token_of_the_moment(lab: Lab, liar: Liar) -> None:
    lab.state()
    await lab.whole()
    assert (0, {"Bearer first"}) == (lab.origin.body_bytes("/file"), set(liar.tokens))
    assert lab.app.settings.token_file is not None
    lab.app.settings.token_file.write_text("second")
    liar.tokens.clear()
    lab.app.events.piece_accused.publish(TASK, 0)  # nothing is wrong
    file = lab.app.store.get(TASK)
    assert file is not None
    with file.path.open("r+b") as data:
        data.write(b"wrong")
    lab.app.events.piece_accused.publish(TASK, 0)
    await asyncio.sleep(0.3)
    await lab.whole()
    assert {"Bearer second"} == set(liar.tokens)


@pytest.mark.parametrize("stage", ["idle", "reading"])
async def test_bytes_that_do_not_have_the_givers_digest_are_never_shown_as_whole(
    lab: Lab, liar: Liar, stage: str
) -> None:
    liar.content = CONTENT[:-1] + b"?"
    liar.said["stage"] = stage
    lab.state()
    report = await lab.whole()
    assert BODY.size == lab.origin.body_bytes("/file") == report.origin_bytes
    assert [0] == liar.starts, "who gave something wrong is not asked for it again"


async def test_a_giver_that_stops_costs_what_it_did_not_give(lab: Lab, liar: Liar) -> None:
    liar.stop_at = 3 * PIECE + 7
    lab.state()
    await lab.whole()
    assert [f"bytes={3 * PIECE}-"] == [access.range for access in lab.origin.requests("/file")]


@pytest.mark.parametrize(
    "said",
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
async def test_nonsense_is_not_believed(lab: Lab, liar: Liar, said: dict[str, Any]) -> None:
    liar.said |= said
    lab.state()
    await lab.whole()


@pytest.mark.parametrize("status", [401, 403, 404, 409, 500, 302])
async def test_who_refuses_is_not_waited_for(lab: Lab, liar: Liar, status: int) -> None:
    liar.status = status
    lab.state()
    await lab.whole()
    assert BODY.size == lab.origin.body_bytes("/file")


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A word is waited for half as long as else, and who did not give it is left alone for half as long."""
    monkeypatch.setattr(client, "_REPORT_TIMEOUT", aiohttp.ClientTimeout(total=1.0))
    monkeypatch.setattr(client, "_SILENCE", 1.0)


@pytest.mark.usefixtures("soon")
async def test_who_hangs_is_asked_twice_and_not_waited_for_again(lab: Lab, liar: Liar) -> None:
    liar.hang = True
    begun = time.monotonic()
    lab.state()
    await lab.whole()
    assert 2 < time.monotonic() - begun < 6
    assert 2 == len(liar.tokens)
    begun = time.monotonic()
    lab.state(OTHER)
    await lab.whole()
    assert time.monotonic() - begun < 3


@pytest.mark.usefixtures("soon")
async def test_who_was_only_busy_gives_its_copy(lab: Lab, liar: Liar) -> None:
    liar.hang = True
    lab.state()
    await asyncio.sleep(0.5)
    liar.hang = False
    await lab.whole()
    assert 0 == lab.origin.body_bytes("/file")


async def test_a_dragonfly_client_is_answered_in_time_while_another_supernode_hangs(lab: Lab, liar: Liar) -> None:
    liar.hang = True
    lab.state()
    url = lab.app.settings.listen
    async with Dfget(f"{url.host}:{url.port}", lab.origin.url("/file")) as client:
        assert CONTENT == await client.run()


IDLE = {"stage": "idle", "whole": False, "generation": "", "piece_size": 0, "length": None, "digest": ""}


@pytest.mark.parametrize(
    "after_wish", [{}, {"failure": {"reason": "VolumeFull", "message": "No room"}}], ids=["idle", "without room"]
)
async def test_an_owner_that_does_not_get_the_file_is_not_waited_for(
    lab: Lab, liar: Liar, monkeypatch: pytest.MonkeyPatch, after_wish: dict[str, Any]
) -> None:
    monkeypatch.setattr(source, "_IDLE", 0.3)
    liar.said |= IDLE
    liar.after_wish = after_wish
    lab.state(owner="other")
    await lab.whole()
    assert "PUT" in liar.asked
    assert BODY.size == lab.origin.body_bytes("/file")


async def test_an_owner_is_told_again_and_again_while_its_copy_is_taken_and_asked_again_at_its_end(
    lab: Lab, liar: Liar, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "_RENEWAL", 0.1)
    whole = {key: liar.said[key] for key in IDLE}
    liar.said |= IDLE
    liar.after_wish, liar.slow = whole, 0.5
    lab.state(owner="other")
    await lab.whole()
    assert liar.asked.count("PUT") > 3
    assert 0 == lab.origin.body_bytes("/file")
