"""Fifteen faults, injected into a running system: each has its own reason within 15 s, wherever a user looks.

The system is the demo's: a real API server, the operator, a supernode and three peers. Faults that do not disturb each
other are injected at the same time, so that all cases take about a minute. Node 1 has a small disk and a clock that can
be wrong. Node 2 has a slow receiver and a link to the supernode that can be cut. Node 3 is frozen.
"""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
import pytest_asyncio
from prometheus_client.parser import text_string_to_metric_families

from pantala_protocol.console.views import Console, TaskDetail
from pantala_protocol.reasons import Reason
from testbed.origin import Behaviour, Generated, sha256
from testbed.process import free_ports
from tests.support.eventually import eventually
from tests.support.links import CutLink
from tests.support.product_stage import MIB, NODES, ProductStage
from tests.support.small_disk import small_disk

pytestmark = [pytest.mark.controlplane, pytest.mark.timeout(240), pytest.mark.asyncio(loop_scope="module")]

LIMIT = 15.0
"""Seconds until the reason of a fault must be everywhere."""
ONE, TWO, THREE = NODES
GROUP = "/apis/pantala.dev/v1alpha1"
GOOD = Generated(8 * MIB)
NEW = Generated(8 * MIB, seed=2, modified=1_600_000_000)
_FLAGS = ("--quotas", "crowded=tasks:1", "--supernode-patience", "10")
"""The patience is the default, unlike that of other tests."""
_AGE = 1.1
"""Seconds between two Tasks of different ages, which count whole seconds."""


@dataclass
class Faults:
    """The system, its faults, and the times at which the reasons appeared."""

    stage: ProductStage
    link: CutLink
    rate: Path
    clock: Path
    console: str
    session: aiohttp.ClientSession
    began: dict[str, float] = field(default_factory=dict)
    took: dict[str, dict[str, float]] = field(default_factory=dict)
    watching: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    """What waits for the reasons of the faults that are injected together."""

    async def seen(self, case: str, what: str, found: Callable[[], Any]) -> None:
        """Wait until ``found`` is true, at most until the limit. Note how long the fault took to appear there."""
        left = LIMIT - (time.monotonic() - self.began[case])
        await eventually(found, within=max(left, 0.5), every=0.1, what=f"{case} is in the {what}", ignoring=KeyError)
        self.took.setdefault(case, {})[what] = round(time.monotonic() - self.began[case], 1)

    async def task(self, name: str, namespace: str = "default") -> dict[str, Any]:
        return await self.stage.ask("GET", f"{GROUP}/namespaces/{namespace}/tasks/{name}")

    async def has_condition(self, name: str, reason: Reason, namespace: str = "default") -> bool:
        """True if ``Ready`` is False for this reason, and says once what to do."""
        task = await self.task(name, namespace)
        for each in task.get("status", {}).get("conditions", ()):
            if (each["type"], each["status"], each["reason"]) == ("Ready", "False", reason):
                assert 1 == each["message"].count(reason.action), each["message"]
                return True
        return False

    async def has_event(self, name: str, reason: Reason, kind: str = "Task", namespace: str = "default") -> bool:
        events = await self.stage.ask("GET", f"/api/v1/namespaces/{namespace}/events")
        return any(
            (each["involvedObject"]["kind"], each["involvedObject"]["name"], each["reason"]) == (kind, name, reason)
            for each in events["items"]
        )

    async def explains(self, name: str, reason: Reason, namespace: str = "default") -> bool:
        """True if the console names the cause and the next step, as ``explain`` and the web page show them."""
        async with self.session.get(f"{self.console}/api/v1/console/tasks/{namespace}/{name}") as answer:
            detail = msgspec.json.decode(await answer.read(), type=TaskDetail)
        return any((each.reason, each.action) == (reason, reason.action) for each in detail.causes)

    async def shows_peer(self, name: str, reason: str) -> bool:
        """True if the console shows that the peer is not well for this reason."""
        async with self.session.get(f"{self.console}/api/v1/console") as answer:
            console = msgspec.json.decode(await answer.read(), type=Console)
        return any((each.name, each.ready, each.reason) == (name, "False", reason) for each in console.peers)

    async def counts(self, reason: Reason, kind: str = "Task") -> bool:
        """True if a metric counts a condition of this kind for this reason."""
        async with self.session.get(f"http://{self.stage.health('operator')}/metrics") as answer:
            families = text_string_to_metric_families(await answer.text())
        labels = {"kind": kind, "status": "False", "reason": reason}
        return any(
            sample.value >= 1 and labels.items() <= sample.labels.items()
            for family in families
            if family.name == "pantala_operator_conditions"
            for sample in family.samples
        )

    async def everywhere(self, case: str, name: str, reason: Reason, namespace: str = "default") -> None:
        """Wait until the reason is in each place where a user looks at a Task."""
        await self.seen(case, "condition", lambda: self.has_condition(name, reason, namespace))
        await self.seen(case, "Event", lambda: self.has_event(name, reason, namespace=namespace))
        await self.seen(case, "metric", lambda: self.counts(reason))
        await self.seen(case, "console", lambda: self.explains(name, reason, namespace))

    async def peer_says(self, name: str, kind: str, reason: str) -> bool:
        peer = await self.stage.ask("GET", f"{GROUP}/peers/{name}")
        return any((each["type"], each["reason"]) == (kind, reason) for each in peer["status"]["conditions"])

    async def names_late(self, name: str, node: str, reason: Reason) -> bool:
        status = (await self.task(name))["status"]
        late = [(each["node"], each["reason"]) for each in status.get("late", ())]
        return [(node, reason)] == late and bool(status["peers"]["late"] == 1)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def faults(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Faults]:
    """The system runs, and the faults of origins, registries and specs are injected."""
    folder = tmp_path_factory.mktemp("faults")
    with small_disk(folder / ONE, 64 * MIB), small_disk(folder / "volume", 512 * MIB):
        (folder / ONE).chmod(0o755)
        async with ProductStage(folder) as stage, contextlib.AsyncExitStack() as stack:
            link = CutLink()
            await stack.enter_async_context(link.serving(int(stage.supernode_url().rpartition(":")[2])))
            rate, clock = folder / "rate", folder / "clock"
            rate.write_text("")
            clock.write_text("0")
            stage.supernode(data=folder / "volume")
            (console,) = free_ports(1)
            stage.operator(*_FLAGS, "--console-listen", f"127.0.0.1:{console}", probes=True)
            stage.peer(ONE, wrapper=("faults.shifted_clock", str(clock)))
            stage.peer(TWO, wrapper=("tests.support.slow_receiver", str(rate)), api=link.port)
            stage.peer(THREE)
            await eventually(lambda: _peers_ready(stage), within=30, what="all peers are ready")
            session = await stack.enter_async_context(aiohttp.ClientSession())
            found = Faults(stage, link, rate, clock, f"http://127.0.0.1:{console}", session)
            await _inject(found)
            yield found
            for case, took in sorted(found.took.items()):
                print(f"{case:20} {took}")
            for name in (*NODES, "operator"):
                assert "Traceback" not in stage.log(name), f"{name} had a traceback"


async def _peers_ready(stage: ProductStage) -> bool:
    peers = (await stage.ask("GET", f"{GROUP}/peers"))["items"]
    ready = [
        each
        for peer in peers
        for each in peer.get("status", {}).get("conditions", ())
        if each["type"] == "Ready" and each["status"] == "True"
    ]
    return len(NODES) == len(ready)


OF_TASKS = {
    "origin-401": Reason.SOURCE_UNAUTHORIZED,
    "origin-404": Reason.SOURCE_NOT_FOUND,
    "origin-slow": Reason.SOURCE_SLOW,
    "origin-changed": Reason.DIGEST_MISMATCH,
    "registry-down": Reason.UNREACHABLE,
    "secret-missing": Reason.SECRET_MISSING,
    "no-node": Reason.NO_NODE_MATCHES,
    "path-taken": Reason.PATH_CONFLICT,
    "quota": Reason.QUOTA_EXCEEDED,
    "volume-full": Reason.VOLUME_FULL,
}
"""The faults that are wrong from the start of a Task."""


async def _inject(found: Faults) -> None:
    stage, origin = found.stage, found.stage.origin
    origin.serve("/good", GOOD)
    origin.serve("/origin-401", GOOD, always=Behaviour(status=401))
    origin.serve("/origin-404", GOOD, always=Behaviour(status=404))
    origin.serve("/origin-slow", Generated(64 * MIB, seed=3), always=Behaviour(rate=128 * 1024))
    origin.serve("/origin-changed", GOOD, script=[Behaviour(replace=NEW, reset_after=MIB)])
    origin.serve("/volume-full", Generated(2048 * MIB, seed=4))
    await stage.ask("POST", "/api/v1/namespaces", {"metadata": {"name": "crowded"}})
    await stage.apply("owner", origin.url("/good"), path="default/taken", target={"names": [TWO, THREE]})
    await _create(stage, "crowded", "first", {"source": {"url": origin.url("/good")}, "depth": "Supernode"})
    await asyncio.sleep(_AGE)
    specs: dict[str, dict[str, Any]] = {
        name: {"source": {"url": origin.url(f"/{name}")}, "target": {"names": [TWO, THREE]}}
        for name in ("origin-401", "origin-404", "origin-slow", "origin-changed", "volume-full")
    }
    specs["origin-changed"]["digest"] = f"sha256:{sha256(GOOD)}"  # a file without a digest is read again, to its end
    good = {"url": origin.url("/good")}
    specs["registry-down"] = {"source": {"image": "127.0.0.1:1/library/x:1"}}
    specs["secret-missing"] = {"source": good, "headersFrom": {"secretRef": {"name": "absent"}}}
    specs["no-node"] = {"source": good, "target": {"nodeSelector": {"gpu": "yes"}}}
    specs["path-taken"] = {"source": {"url": origin.url("/origin-slow")}, "path": "default/taken"}
    specs["quota"] = {"source": good}
    for name, spec in specs.items():
        found.began[name] = time.monotonic()
        await _create(stage, "crowded" if name == "quota" else "default", name, spec)
        found.watching[name] = asyncio.create_task(_watch(found, name))


async def _create(stage: ProductStage, namespace: str, name: str, spec: dict[str, Any]) -> None:
    body = {"apiVersion": "pantala.dev/v1alpha1", "kind": "Task", "metadata": {"name": name}, "spec": spec}
    await stage.ask("POST", f"{GROUP}/namespaces/{namespace}/tasks", body)


@pytest.mark.parametrize("case", OF_TASKS)
async def test_a_fault_of_a_task(faults: Faults, case: str) -> None:
    await faults.watching[case]


async def _watch(faults: Faults, case: str) -> None:
    reason, namespace = OF_TASKS[case], "crowded" if case == "quota" else "default"
    await faults.everywhere(case, case, reason, namespace)


async def test_a_task_that_matches_no_node_has_no_progress(faults: Faults) -> None:
    status = (await faults.task("no-node"))["status"]
    assert ("0%", 0) == (status["progress"], status["peers"]["desired"])


async def test_a_slow_node(faults: Faults) -> None:
    """Two nodes get the file at once, and the third one at 512 KiB a second."""
    stage, case, reason = faults.stage, "slow", Reason.NODE_SLOW
    for name in ("origin-slow", "origin-changed", "volume-full"):  # they would take bandwidth
        await stage.delete(name)
    stage.origin.serve("/slow", Generated(32 * MIB, seed=5))
    faults.rate.write_text(str(512 * 1024))
    faults.began[case] = time.monotonic()
    await stage.apply(case, stage.origin.url("/slow"))
    await faults.everywhere(case, case, reason)
    await faults.seen(case, "status.late", lambda: faults.names_late(case, TWO, reason))
    faults.rate.write_text("")
    await stage.ready(case)
    assert () == tuple(stage.status(case).get("late", ()))


async def test_faults_of_nodes(faults: Faults) -> None:
    """A full disk and a wrong clock on node 1, a cut link on node 2, and a frozen node 3, all at once."""
    stage, origin = faults.stage, faults.stage.origin
    origin.serve("/full", Generated(96 * MIB, seed=6))
    for name, node in (("cut", TWO), ("frozen", THREE)):
        origin.serve(f"/{name}", Generated(64 * MIB, seed=7), always=Behaviour(rate=2 * MIB))
        await stage.apply(name, origin.url(f"/{name}"), target={"names": [node]})
    await eventually(lambda: _moves(faults, "cut", "frozen"), within=15, every=0.1, what="both downloads run")
    faults.began |= dict.fromkeys(("full", "clock", "cut", "frozen"), time.monotonic())
    faults.link.cut()
    os.kill(stage.processes[THREE].pid, signal.SIGSTOP)
    faults.clock.write_text("120")
    await stage.apply("full", origin.url("/full"), target={"names": [ONE]})

    await faults.everywhere("full", "full", Reason.NODE_DISK_FULL)
    skewed = Reason.CLOCK_SKEWED
    await faults.seen("clock", "condition", lambda: faults.peer_says(ONE, "ClockSynchronized", skewed))
    await faults.seen("clock", "Event", lambda: faults.has_event(ONE, skewed, "Peer"))
    await faults.seen("clock", "metric", lambda: faults.counts(skewed, "Peer"))
    await faults.seen("clock", "console", lambda: faults.explains("full", skewed))
    await _is_silent(faults, "cut", TWO, Reason.NODE_CUT_OFF)
    await _is_silent(faults, "frozen", THREE, Reason.NODE_SILENT)


async def _is_silent(faults: Faults, case: str, node: str, reason: Reason) -> None:
    await faults.everywhere(case, case, reason)
    await faults.seen(case, "status.late", lambda: faults.names_late(case, node, reason))
    await faults.seen(case, "Peer", lambda: faults.peer_says(node, "Ready", reason))
    await faults.seen(case, "Peer's Event", lambda: faults.has_event(node, reason, "Peer"))
    await faults.seen(case, "console's peer", lambda: faults.shows_peer(node, reason))


async def test_recovery_leaves_no_reason(faults: Faults) -> None:
    stage = faults.stage
    faults.link.mend()
    os.kill(stage.processes[THREE].pid, signal.SIGCONT)
    faults.clock.write_text("0")
    await stage.ready("cut", "frozen", seconds=60)
    for name in ("cut", "frozen"):
        status = stage.status(name)
        assert ((), 0, "100%") == (tuple(status.get("late", ())), status["peers"]["late"], status["progress"])
    for node in (TWO, THREE):
        await eventually(lambda: faults.peer_says(node, "Ready", "Connected"), within=15, every=0.2)  # noqa: B023


async def test_the_supernode_is_down(faults: Faults) -> None:
    case, reason = "supernode", Reason.SUPERNODE_UNAVAILABLE
    faults.began[case] = time.monotonic()
    faults.stage.kill("supernode")
    await faults.everywhere(case, "full", reason)
    await faults.seen(case, "Peer", lambda: faults.peer_says(THREE, "Ready", reason))


async def _moves(faults: Faults, *names: str) -> bool:
    pieces = [(await faults.task(name)).get("status", {}).get("pieces", {}) for name in names]
    return all(each.get("cached", 0) > 0 for each in pieces)
