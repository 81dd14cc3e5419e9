"""The operator as a process, between a real API server and a supernode that speaks the protocol over HTTP."""

from __future__ import annotations

import asyncio
import json
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web

from pantala_operator.adapters.memory import MemorySupernode
from pantala_protocol.statement import CDNStatus, Statement, TaskReport, WantedTask
from testbed.apiserver import ControlPlane
from testbed.process import Process, free_ports

pytestmark = [pytest.mark.controlplane, pytest.mark.timeout(180)]

ROOT = Path(__file__).resolve().parents[2]
NODES = ("node-a", "node-b", "node-c")
URL = "http://origin.example/file"


@dataclass
class ServedSupernode:
    """A supernode in memory behind the real routes, on a port that stays when it goes down."""

    memory: MemorySupernode
    port: int
    runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application()
        app.router.add_put("/api/v1/statement", self._statement)
        app.router.add_get("/api/v1/changes", self._changes)
        self.runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", self.port).start()

    async def stop(self) -> None:
        if self.runner is not None:
            await self.runner.cleanup()
            self.runner = None

    async def deliver(self, name: str, **changes: Any) -> TaskReport:
        """Report a Task as done, or as ``changes`` say."""
        wanted = await self.wanting(name)
        done = TaskReport(
            uid=wanted.uid,
            task_id=wanted.task_id,
            attempt=wanted.attempt,
            cdn_status=CDNStatus.SUCCESS,
            length=1 << 20,
            digest="sha256:" + "a" * 64,
            piece_size=1 << 17,
            pieces_total=8,
            pieces_cached=8,
            origin_bytes=1 << 20,
            supernode_bytes=1 << 20,
            peer_bytes=2 << 20,
            ready_peers=wanted.peers,
        )
        report = msgspec.structs.replace(done, **changes)
        await self.memory.report(report)
        return report

    async def wanting(self, name: str, condition: Callable[[WantedTask], object] = bool) -> WantedTask:
        """The statement's word on a Task, once it meets ``condition``."""

        def met() -> bool:
            return name in self.memory.wanted and bool(condition(self.memory.wanted[name]))

        await until(met, f"{name} is stated as expected")
        return self.memory.wanted[name]

    async def _statement(self, request: web.Request) -> web.Response:
        receipt = await self.memory.state(msgspec.json.decode(await request.read(), type=Statement))
        return web.Response(body=msgspec.json.encode(receipt))

    async def _changes(self, request: web.Request) -> web.Response:
        query = request.query
        changes = await self.memory.changes(query["boot"], int(query["since"]), float(query["wait"]))
        return web.Response(body=msgspec.json.encode(changes))


class Operator:
    """The operator's process."""

    def __init__(self, control_plane: ControlPlane, supernode: ServedSupernode, directory: Path) -> None:
        self._port = free_ports(1)[0]
        self._directory = directory
        self._arguments = [
            *("--supernode", f"http://127.0.0.1:{supernode.port}"),
            *("--kubeconfig", str(control_plane.kubeconfig)),
            *("--health-listen", f"127.0.0.1:{self._port}"),
            *("--supernode-patience", "2"),
        ]
        self._process: Process | None = None

    def start(self, *more: str) -> None:
        command = [sys.executable, "-m", "pantala_operator", *self._arguments, *more]
        self._process = Process(command, self._directory / "operator.log")

    def stop(self) -> float:
        """End it with SIGTERM. Returns how long that took."""
        began = time.monotonic()
        if self._process is not None:
            self._process.stop()
        return time.monotonic() - began

    @property
    def log(self) -> str:
        return (self._directory / "operator.log").read_text()

    @property
    def returncode(self) -> int | None:
        return self._process.returncode if self._process is not None else None

    def ask(self, path: str) -> tuple[int, list[str]]:
        """Ask a probe's path: its status and reasons; 0 while nobody listens."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}{path}", timeout=5) as answer:
                return answer.status, json.load(answer)["reasons"]
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)["reasons"]
        except OSError:
            return 0, []


class Kubectl:
    """kubectl, off the event loop."""

    def __init__(self, control_plane: ControlPlane) -> None:
        self._run = control_plane.kubectl

    async def __call__(self, *arguments: str, text: str | None = None, check: bool = True) -> str:
        return await asyncio.to_thread(self._run, *arguments, text=text, check=check)

    async def apply(self, body: dict[str, Any]) -> None:
        await self("apply", "-f", "-", text=json.dumps(body))

    async def task(self, name: str, **spec: Any) -> None:
        spec.setdefault("source", {"url": URL})
        metadata = {"name": name, "namespace": "default"}
        await self.apply({"apiVersion": "pantala.dev/v1alpha1", "kind": "Task", "metadata": metadata, "spec": spec})

    async def get(self, *arguments: str) -> dict[str, Any]:
        return dict(json.loads(await self("get", *arguments, "-o", "json")))

    async def wait(self, condition: str, *names: str, timeout: str = "20s") -> None:
        await self("wait", f"--for={condition}", f"--timeout={timeout}", *names)

    async def conditions(self, name: str) -> dict[str, tuple[str, str]]:
        """A Task's conditions as type -> (status, reason)."""
        status = (await self.get("task", name)).get("status", {})
        return {each["type"]: (each["status"], each["reason"]) for each in status.get("conditions", ())}


async def until(condition: Callable[[], object], what: str, seconds: float = 20) -> None:
    """Wait until ``condition`` holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        await asyncio.sleep(0.05)


@pytest.fixture(scope="module")
def control_plane() -> Iterator[ControlPlane]:
    with ControlPlane() as running:
        running.kubectl("apply", "--server-side", "-f", str(ROOT / "crds"))
        running.kubectl("wait", "--for=condition=Established", "--all", "crd")
        for name in NODES:
            body = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"disk": "ssd"}}}
            running.kubectl("apply", "-f", "-", text=json.dumps(body))
            # No controller manager runs that would take the taint of a new node away.
            running.kubectl("taint", "node", name, "node.kubernetes.io/not-ready-", check=False)
        yield running


@pytest.fixture
def kubectl(control_plane: ControlPlane) -> Iterator[Kubectl]:
    yield Kubectl(control_plane)
    control_plane.kubectl("delete", "tasks,peers", "--all", "--all-namespaces", check=False)
    control_plane.kubectl("delete", "peers", "--all", check=False)


@pytest.fixture
async def supernode() -> AsyncIterator[ServedSupernode]:
    served = ServedSupernode(MemorySupernode(), free_ports(1)[0])
    await served.memory.connect(*NODES)
    await served.start()
    yield served
    await served.stop()


@pytest.fixture
async def operator(
    control_plane: ControlPlane, supernode: ServedSupernode, kubectl: Kubectl, tmp_path: Path
) -> AsyncIterator[Operator]:
    running = Operator(control_plane, supernode, tmp_path)
    running.start()
    await until(lambda: running.ask("/readyz") == (200, []), f"the operator is ready: {running.ask('/readyz')}")
    yield running
    await asyncio.to_thread(running.stop)
    print(running.log)  # shown by pytest when the test fails


async def test_a_task_is_stated_reported_and_ready(
    kubectl: Kubectl, supernode: ServedSupernode, operator: Operator
) -> None:
    """From apply to ``kubectl wait``, with what a user sees in between."""
    await kubectl.task("file")
    wanted = await supernode.wanting("default/file", lambda task: task.peers)
    assert (wanted.url, wanted.path, wanted.peers) == ("http://origin.example/file", "default/file", NODES)
    await supernode.deliver("default/file", ready_peers=("node-a",), active_peers=("node-b",))
    await kubectl.wait("condition=Cached", "task/file")
    assert (await kubectl.conditions("file"))["Ready"] == ("False", "Progressing")
    await supernode.deliver("default/file")
    await kubectl.wait("condition=Ready", "task/file")
    status = (await kubectl.get("task", "file"))["status"]
    assert (status["summary"], status["size"], status["bytes"]["origin"]) == ("3/3", "1Mi", 1 << 20)
    assert status["peers"] == {"desired": 3, "ready": 3, "active": 0, "failed": 0}
    events = await kubectl("get", "events", "--field-selector=involvedObject.name=file", "-o", "jsonpath={..reason}")
    assert events == "Distributed"
