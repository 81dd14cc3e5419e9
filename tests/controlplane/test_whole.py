"""The whole product on one machine, under faults, bad input and edits.

All bad Tasks are applied at once before the first case looks, so that the cases take no longer together than alone.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from pantala_protocol.reasons import Reason
from testbed.origin import Behaviour, Generated
from tests.controlplane.whole_stage import WholeStage
from tests.controlplane.whole_tables import BAD, BODY, CANARY, GOOD, NEW, WRONG, always
from tests.support.product_stage import GRACE, MIB, NODES

pytestmark = [pytest.mark.controlplane, pytest.mark.timeout(180), pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[WholeStage]:
    """Everything runs, and all Tasks of :data:`BAD` and :data:`GOOD` are applied."""
    async with WholeStage(tmp_path_factory.mktemp("whole")) as stage:
        stage.supernode()
        stage.operator()
        for name in NODES:
            stage.peer(name)
        (stage.folder / "outside").mkdir()
        for name in NODES:
            files = stage.root(name) / "files"
            await stage.until(files.exists, f"{name} is up")
            own = files / "default"
            own.mkdir()
            (own / "link").symlink_to(stage.folder / "outside")
            (own / "foreign").mkdir()
            (own / "foreign" / "x").write_text("mine")
        await stage.secret("two-lines", {"X-Token": "a\nb"})
        await stage.joined()
        await stage.give("silent", always(stall_after=MIB, ranges=False), set())
        for name, (given, body) in GOOD.items():
            await stage.give(name, given, {body.size})
        await asyncio.sleep(1.1)  # the path's owner is older than its rival, and ages count whole seconds
        for name, (given, _) in BAD.items():
            await stage.give(name, given, set())
        yield stage
        for name, process in stage.processes.items():
            assert "Traceback" not in stage.log(name), f"{name} had a traceback"
            assert process.returncode is None, f"{name} ended"


# Bad input


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_task_gives_a_reason_and_publishes_nothing(stage: WholeStage, name: str) -> None:
    """A condition has the reason and says what to do. No byte of the file appears at its path."""
    given, reasons = BAD[name]
    message = await stage.says(name, *(reason.value for reason in reasons), seconds=60)
    assert any(reason.action in message for reason in reasons), message
    assert "True" != stage.conditions(name).get("Ready", ("",))[0]
    path = given.path_of(name)
    if path == "default/foreign/x":
        assert {"mine"} == {at.read_text() for at in stage.published(path).values()}
    elif path != "default/taken" and not path.startswith("/"):
        assert set() == stage.held(path)


@pytest.mark.parametrize("name", GOOD)
async def test_a_faulty_origin_is_read_in_the_end(stage: WholeStage, name: str) -> None:
    """Every node has one whole content."""
    given, body = GOOD[name]
    await stage.ready(name, seconds=60)
    stage.assert_held(given.path_of(name), body)


async def test_a_secret_that_is_created_later_is_used(stage: WholeStage) -> None:
    await stage.says("secret-missing", Reason.SECRET_MISSING)
    stage.sizes["default/secret-missing"] = {BODY.size}
    await stage.secret("later", {"X-Token": "t"})
    await stage.ready("secret-missing", seconds=60)
    assert ["t"] == [access.headers["x-token"] for access in stage.origin.requests("/secret-missing")]


async def test_a_node_that_matches_later_gets_the_file(stage: WholeStage) -> None:
    await stage.says("no-node", Reason.NO_NODE_MATCHES)
    stage.sizes["default/no-node"] = {BODY.size}
    await stage.ask("PATCH", "/api/v1/nodes/node-2", {"metadata": {"labels": {"late": "yes"}}})
    await stage.ready("no-node")
    stage.assert_held("default/no-node", BODY, ["node-2"])


async def test_another_task_gets_the_path_of_a_deleted_task(stage: WholeStage) -> None:
    await stage.says("rival", Reason.PATH_CONFLICT)
    await stage.ready("owner", seconds=60)
    await stage.delete("owner")
    await stage.ready("rival")
    stage.assert_held("default/taken", BODY)


# Life


async def test_a_file_follows_its_path_and_its_target(stage: WholeStage) -> None:
    """It moves without a second read. Nodes that are no longer targets lose the file and its pieces."""
    await stage.begin("moving", BODY, path="default/moving/a")
    await stage.ready("moving")
    await stage.patch("moving", {"spec": {"path": "default/moving/b/c"}})
    await stage.ready("moving")
    stage.assert_held("default/moving/b/c", BODY)
    assert set() == stage.held("default/moving/a")
    await stage.patch("moving", {"spec": {"target": {"names": ["node-1"]}}})
    await stage.ready("moving")
    await stage.until(lambda: {"node-1"} == stage.held("default/moving/b/c"), "moving leaves two nodes", 15)
    task_id = stage.status("moving")["taskID"]
    await stage.until(lambda: 2 == len(stage.left(task_id)), "moving leaves two caches", 15)
    assert BODY.size == stage.origin.body_bytes("/moving")
    await stage.delete("moving")
    await stage.until(lambda: not stage.left(task_id) and not stage.held("default/moving/b/c"), "moving is gone", 15)
    assert not (stage.root("node-1") / "files" / "default" / "moving").exists()


async def test_a_suspended_task_rests_and_continues_where_it_was(stage: WholeStage) -> None:
    body = Generated(4 * MIB, seed=11)
    await stage.begin("resting", body, Behaviour(rate=2 * MIB))
    await stage.cached("resting", 4)
    await stage.patch("resting", {"spec": {"suspend": True}})
    await stage.until(lambda: ("False", "Suspended") == stage.conditions("resting").get("Ready"), "resting rests")
    assert await stage.unread("resting") < body.size
    await stage.patch("resting", {"spec": {"suspend": False}})
    await stage.ready("resting")
    stage.assert_held("default/resting", body)
    assert stage.origin.body_bytes("/resting") < body.size + 2 * MIB // 4


async def test_a_deadline_ends_the_download_and_a_later_deadline_continues_it(stage: WholeStage) -> None:
    body = Generated(4 * MIB, seed=13)
    await stage.begin("late", body, Behaviour(rate=MIB / 2), activeDeadlineSeconds=3)
    await stage.says("late", Reason.DEADLINE_EXCEEDED, kind="Stalled")
    await stage.unread("late")
    assert set() == stage.held("default/late")
    stage.origin.serve("/late", body)
    await stage.patch("late", {"spec": {"activeDeadlineSeconds": 120}})
    await stage.ready("late")
    stage.assert_held("default/late", body)
    *_, last = stage.origin.requests("/late")
    assert 0 < int(last.range.removeprefix("bytes=").partition("-")[0])


async def test_tries_end_at_their_limit_until_a_new_request(stage: WholeStage) -> None:
    await stage.begin("limited", BODY, Behaviour(status=500), retry={"limit": 2})
    message = await stage.says("limited", Reason.SOURCE_ERROR, kind="Stalled")
    assert "pantala.dev/requested-at" in message
    assert 3 == len(stage.origin.requests("/limited"))
    stage.origin.serve("/limited", BODY)
    await stage.patch("limited", {"metadata": {"annotations": {"pantala.dev/requested-at": "now"}}})
    await stage.ready("limited")


@pytest.mark.parametrize(("name", "spec"), [("done", {}), ("failed", WRONG)])
async def test_a_finished_task_is_deleted_after_its_ttl(stage: WholeStage, name: str, spec: dict[str, Any]) -> None:
    name = f"ttl-{name}"
    await stage.begin(name, BODY, ttlSecondsAfterFinished=2, **spec)
    await stage.until(lambda: "taskID" in stage.status(name), f"{name} is seen")
    task_id = stage.status(name)["taskID"]
    await stage.until(lambda: name not in stage.tasks, f"{name} is deleted")
    gone: Callable[[], bool] = lambda: not stage.left(task_id) and not stage.held(f"default/{name}")  # noqa: E731
    await stage.until(gone, f"{name} left nothing", 15)


async def test_a_task_deleted_half_way_leaves_nothing(stage: WholeStage) -> None:
    await stage.begin("broken-off", Generated(8 * MIB, seed=15), Behaviour(rate=MIB))
    task_id = (await stage.cached("broken-off", 8))["taskID"]
    await stage.delete("broken-off")
    await stage.until(lambda: not stage.left(task_id), "broken-off is gone", 15)
    read = stage.origin.body_bytes("/broken-off")
    await asyncio.sleep(1)
    # The origin notices the closed connection only after one more write.
    assert stage.origin.body_bytes("/broken-off") < read + MIB // 8


async def test_a_recreated_task_takes_over_the_files(stage: WholeStage) -> None:
    """The same URL is not read again. Another URL publishes the other content."""
    stage.origin.serve("/again", BODY)
    stage.origin.serve("/other", NEW)
    await stage.apply("again", stage.origin.url("/again"))
    await stage.ready("again")
    await stage.delete("again")
    await stage.apply("again", stage.origin.url("/again"))
    await stage.ready("again")
    assert BODY.size == stage.origin.body_bytes("/again")
    await stage.delete("again")
    await stage.apply("again", stage.origin.url("/other"))
    await stage.ready("again", seconds=45)
    stage.assert_held("default/again", NEW)


async def test_two_tasks_of_one_url_share_one_copy(stage: WholeStage) -> None:
    stage.origin.serve("/shared", BODY)
    for number in (1, 2):
        await stage.apply(f"shared-{number}", stage.origin.url("/shared"), path=f"default/shared/{number}")
    await stage.ready("shared-1", "shared-2")
    await stage.delete("shared-1")
    await stage.until(lambda: not stage.held("default/shared/1"), "shared-1 is gone", 15)
    await asyncio.sleep(GRACE + 1)
    stage.assert_held("default/shared/2", BODY)
    assert BODY.size == stage.origin.body_bytes("/shared")


# Faults of our own


async def test_the_operator_is_killed(stage: WholeStage) -> None:
    """Downloads continue. The next operator finds the changes of the meantime, including a deletion."""
    body = Generated(8 * MIB, seed=30)
    await stage.begin("orphaned", body, Behaviour(rate=2 * MIB))
    task_id = stage.status("empty")["taskID"]
    await stage.cached("orphaned", 8)
    stage.kill("operator")
    await stage.delete("empty")
    stage.operator()
    await stage.ready("orphaned")
    stage.assert_held("default/orphaned", body)
    assert body.size == stage.origin.body_bytes("/orphaned")
    stage.sizes.pop("default/empty")
    await stage.until(lambda: not stage.left(task_id) and not stage.held("default/empty"), "empty is gone", 20)


async def test_the_supernode_is_killed(stage: WholeStage) -> None:
    """No verified piece is read again, and Ready Tasks stay Ready."""
    body = Generated(12 * MIB, seed=31)
    await stage.begin("interrupted", body, Behaviour(rate=3 * MIB))
    cached = (await stage.cached("interrupted", 40))["pieces"]["cached"]
    stage.kill("supernode")
    await asyncio.sleep(0.5)
    stage.supernode()
    await stage.ready("interrupted")
    stage.assert_held("default/interrupted", body)
    *_, last = stage.origin.requests("/interrupted")
    first = int(last.range.removeprefix("bytes=").partition("-")[0])
    assert cached * stage.status("interrupted")["pieceSize"] <= first
    assert stage.is_ready("cut-once")
    assert not [each for each in stage.messages["cut-once"] if each[1:] == ("True", "SupernodeUnavailable")]


async def test_a_peer_is_killed(stage: WholeStage) -> None:
    body = Generated(12 * MIB, seed=32)
    await stage.begin("node-lost", body, Behaviour(rate=3 * MIB))
    await stage.cached("node-lost", 40)
    stage.kill("node-2")
    await asyncio.sleep(1)
    stage.peer("node-2")
    await stage.ready("node-lost")
    stage.assert_held("default/node-lost", body)
    assert body.size == stage.origin.body_bytes("/node-lost")


async def test_many_small_files(stage: WholeStage) -> None:
    names = [f"many-{number}" for number in range(60)]
    bodies = {name: Generated(50_000 + number, seed=100 + number) for number, name in enumerate(names)}
    for name, body in bodies.items():
        stage.origin.serve(f"/{name}", body)
    await asyncio.gather(*(stage.apply(name, stage.origin.url(f"/{name}")) for name in names))
    await stage.ready(*names, seconds=60)
    for name, body in bodies.items():
        stage.assert_held(f"default/{name}", body)


async def test_an_origin_that_falls_silent(stage: WholeStage) -> None:
    """The Task was applied at the start, so the time limit is over."""
    await stage.says("silent", Reason.SOURCE_TIMEOUT, seconds=60)
    assert set() == stage.held("default/silent")


# Secrets


async def test_no_secret_is_ever_shown(stage: WholeStage) -> None:
    """No value of a header and no secret of a URL appears in a log, status, Event or file, or at another host."""
    origin = stage.origin
    await stage.secret("token", {"Authorization": f"Bearer {CANARY}"})
    secret = {"headersFrom": {"secretRef": {"name": "token"}}}
    elsewhere = f"http://user:{CANARY}@127.0.0.1:1/x?token={CANARY}"
    echo = {"ETag": f'"for {CANARY}"'}
    origin.serve(
        f"/{CANARY}/private", BODY, always=Behaviour(require={"authorization": f"Bearer {CANARY}"}, headers=echo)
    )
    origin.serve(f"/{CANARY}/sent-on", BODY, always=Behaviour(status=302, headers={"Location": elsewhere}))
    origin.serve(f"/{CANARY}/denied", BODY, always=Behaviour(status=401))
    origin.serve(f"/{CANARY}/coded", BODY, always=Behaviour(headers={"Content-Encoding": CANARY}))
    for name in ("private", "sent-on", "denied", "coded"):
        await stage.apply(f"canary-{name}", origin.url(f"/{CANARY}/{name}?signature={CANARY}"), **secret)
    await stage.apply("canary-nowhere", f"http://no-such-host.invalid/{CANARY}?signature={CANARY}")
    await stage.ready("canary-private")
    await stage.says("canary-sent-on", Reason.SOURCE_UNUSABLE)
    await stage.says("canary-denied", Reason.SOURCE_UNAUTHORIZED)
    await stage.ready("canary-coded")
    await stage.says("canary-nowhere", Reason.SOURCE_HOST_UNKNOWN)
    files = [*stage.kept(), *stage.folder.glob("*.log")]
    assert [] == [file for file in files if CANARY.encode() in file.read_bytes()]
    events = await stage.ask("GET", "/api/v1/namespaces/default/events")
    assert CANARY not in str(events)
    assert CANARY not in str({name: task.get("status") for name, task in stage.tasks.items()})
    assert CANARY not in "".join(message for seen in stage.messages.values() for message in seen.values())
    arguments = [Path(f"/proc/{process.pid}/cmdline").read_bytes() for process in stage.processes.values()]
    assert CANARY.encode() not in b"".join(arguments)


# The end


async def test_all_states_were_valid(stage: WholeStage) -> None:
    """At no time had a file a wrong size, or a Task two of Ready, Reconciling and Stalled."""
    assert [] == stage.violations


async def test_all_deleted_leaves_nothing(stage: WholeStage) -> None:
    stage.sizes.clear()
    await stage.ask("DELETE", "/apis/pantala.dev/v1alpha1/namespaces/default/tasks")

    def left() -> list[Path]:
        return [
            file
            for file in stage.kept()
            if not file.name.startswith("volume.json") and file.parts[-2:] != ("foreign", "x")
        ]

    await stage.until(lambda: not left(), "all is gone")


async def test_each_process_ends_in_order(stage: WholeStage) -> None:
    """SIGTERM ends an idle process with 0 within seconds."""
    for name in ("node-1", "supernode", "operator", "node-2"):
        process, began = stage.processes[name], time.monotonic()
        await asyncio.to_thread(process.stop, 15)
        assert (name, 0) == (name, process.returncode)
        assert time.monotonic() - began < 5, name
        start: dict[str, Callable[[], None]] = {"supernode": stage.supernode, "operator": stage.operator}
        start.get(name, partial(stage.peer, name))()
