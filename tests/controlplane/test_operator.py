"""The operator as a process, between a real API server and a supernode that speaks the protocol over HTTP."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from aiohttp import web

from pantala_operator.adapters import kubernetes
from pantala_operator.adapters.kubernetes import KubernetesCluster
from pantala_operator.errors import ClusterConflictError, ClusterNotFoundError
from pantala_operator.resources.api import (
    API_VERSION,
    Metadata,
    Node,
    PeerCache,
    PeerCount,
    PeerResource,
    PeerStatus,
    TaskResource,
    TaskSource,
    TaskSpec,
    TaskStatus,
)
from pantala_operator.resources.conditions import Condition
from pantala_protocol.registry import RESOLVE, Resolve
from pantala_protocol.statement import CDNStatus, Failure, Statement, TaskReport, WantedTask
from testbed.apiserver import ControlPlane
from testbed.process import Process, free_ports
from tests.support.cluster import MemoryCluster
from tests.support.eventually import eventually
from tests.support.supernode import MemorySupernode

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
        app.router.add_post(RESOLVE, self._resolve)
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

        await eventually(met, what=f"{name} is stated as expected")
        return self.memory.wanted[name]

    async def _statement(self, request: web.Request) -> web.Response:
        receipt = await self.memory.state(msgspec.json.decode(await request.read(), type=Statement))
        return web.Response(body=msgspec.json.encode(receipt))

    async def _resolve(self, request: web.Request) -> web.Response:
        answer = await self.memory.resolve(msgspec.json.decode(await request.read(), type=Resolve))
        return web.Response(body=msgspec.json.encode(answer))

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


@pytest.fixture(scope="module")
def control_plane() -> Iterator[ControlPlane]:
    with ControlPlane() as running:
        running.kubectl("apply", "--server-side", "-f", str(ROOT / "crds"))
        running.kubectl("wait", "--for=condition=Established", "--all", "crd")
        make_nodes(running, {"disk": "ssd"})
        yield running


def make_nodes(control_plane: ControlPlane, labels: dict[str, str]) -> None:
    metadata = [{"name": name, "labels": labels} for name in NODES]
    nodes = [{"apiVersion": "v1", "kind": "Node", "metadata": each} for each in metadata]
    control_plane.kubectl("apply", "-f", "-", text=json.dumps({"apiVersion": "v1", "kind": "List", "items": nodes}))
    # No controller manager runs that would take the taint of a new node away.
    control_plane.kubectl("taint", "nodes", "--all", "node.kubernetes.io/not-ready-", check=False)


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
    try:
        await eventually(lambda: running.ask("/readyz") == (200, []))
        yield running
    finally:
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


async def test_waiting_works_after_an_edit(kubectl: Kubectl, supernode: ServedSupernode, operator: Operator) -> None:
    """A condition of the generation before does not satisfy ``kubectl wait``; the new one's does."""
    await kubectl.task("edited")
    await supernode.deliver("default/edited")
    await kubectl.wait("condition=Ready", "task/edited")
    await kubectl.task("edited", priority=7)
    wanted = await supernode.wanting("default/edited", lambda task: task.priority == 7)
    with pytest.raises(subprocess.CalledProcessError):
        await kubectl.wait("condition=Ready", "task/edited", timeout="1s")
    await supernode.deliver("default/edited", attempt=wanted.attempt)
    await kubectl.wait("condition=Ready", "task/edited")
    body = await kubectl.get("task", "edited")
    stamps = {each["observedGeneration"] for each in body["status"]["conditions"]}
    assert {body["metadata"]["generation"]} == stamps | {body["status"]["observedGeneration"]} == {2}


async def test_a_deleted_task_is_no_longer_wanted(
    kubectl: Kubectl, supernode: ServedSupernode, operator: Operator
) -> None:
    """Nothing holds the deletion up, and nothing else is dropped."""
    await kubectl.task("kept")
    await kubectl.task("dropped")
    await supernode.wanting("default/kept")
    await supernode.wanting("default/dropped")
    await kubectl("delete", "task", "dropped", "--timeout=5s")
    await eventually(lambda: set(supernode.memory.wanted) == {"default/kept"})


async def test_what_happens_while_the_operator_is_down_is_caught_up(
    kubectl: Kubectl, supernode: ServedSupernode, operator: Operator
) -> None:
    """Deletions, creations and reports during its absence; it stops fast, and its revisions go on growing."""
    await kubectl.task("old")
    await kubectl.task("done")
    await supernode.deliver("default/done")
    await kubectl.wait("condition=Ready", "task/done")
    written = (await kubectl.get("task", "done"))["metadata"]["resourceVersion"]
    assert await asyncio.to_thread(operator.stop) < 5
    assert operator.returncode == 0
    revision = supernode.memory.statements[-1].revision
    await kubectl("delete", "task", "old", "--timeout=5s")
    await kubectl.task("new")
    operator.start()
    await eventually(lambda: set(supernode.memory.wanted) == {"default/done", "default/new"})
    later = [each for each in supernode.memory.statements if each.revision > revision]
    assert [{"default/done", "default/new"}] == [{task.name for task in each.tasks} for each in later]
    assert written == (await kubectl.get("task", "done"))["metadata"]["resourceVersion"]


async def test_an_outage_of_the_api_server_is_survived(
    control_plane: ControlPlane, kubectl: Kubectl, supernode: ServedSupernode, operator: Operator
) -> None:
    """What was wanted stays wanted, nothing ends, and what happened meanwhile is written when it is back."""
    await kubectl.task("through")
    await supernode.wanting("default/through")
    control_plane.stop_apiserver()
    try:
        await supernode.deliver("default/through")
        await supernode.memory.restart()
        await supernode.memory.connect(*NODES)
        await supernode.wanting("default/through")
        await asyncio.sleep(5)
        assert {"default/through"} == set(supernode.memory.wanted)
        assert operator.ask("/healthz") == (200, [])
    finally:
        control_plane.start_apiserver()  # not in another thread, which would end it with itself
    await supernode.deliver("default/through")
    await kubectl.wait("condition=Ready", "task/through", timeout="30s")
    await kubectl.task("after")
    await supernode.wanting("default/after")
    assert operator.returncode is None


async def test_a_supernode_that_is_away_is_said_and_healed(
    kubectl: Kubectl, supernode: ServedSupernode, operator: Operator
) -> None:
    """Unfinished Tasks say so, finished ones stay Ready; after its return it is told everything again."""
    await kubectl.task("finished")
    await supernode.deliver("default/finished")
    await kubectl.wait("condition=Ready", "task/finished")
    await supernode.stop()
    await kubectl.task("waiting")
    path = "jsonpath={.status.conditions[?(@.type=='Reconciling')].reason}=SupernodeUnavailable"
    await kubectl.wait(path, "task/waiting")
    assert (await kubectl.conditions("finished"))["Ready"] == ("True", "Distributed")
    supernode.memory.statements.clear()
    await supernode.memory.restart()
    await supernode.memory.connect(*NODES)
    await supernode.start()
    await supernode.deliver("default/finished")
    await supernode.deliver("default/waiting")
    await kubectl.wait("condition=Ready", "task/waiting", "task/finished")


async def test_a_finished_task_is_deleted_after_its_time(
    kubectl: Kubectl, supernode: ServedSupernode, operator: Operator
) -> None:
    """``ttlSecondsAfterFinished``, after success and after a final failure."""
    await kubectl.task("short", ttlSecondsAfterFinished=2)
    await kubectl.task("wrong", ttlSecondsAfterFinished=2)
    await supernode.deliver("default/short")
    failure = Failure("DigestMismatch", "the file's digest is sha256:b…", final=True)
    await supernode.deliver("default/wrong", cdn_status=CDNStatus.FAILED, failure=failure, ready_peers=())
    await kubectl.wait("condition=Stalled", "task/wrong")
    await kubectl.wait("delete", "task/short", "task/wrong")
    await eventually(lambda: not supernode.memory.wanted)


async def test_suspending_keeps_what_is_there(kubectl: Kubectl, supernode: ServedSupernode, operator: Operator) -> None:
    """A finished Task stays Ready, another says Suspended; neither is dropped."""
    await kubectl.task("whole")
    await kubectl.task("half")
    await supernode.deliver("default/whole")
    await kubectl.wait("condition=Ready", "task/whole")
    for name in ("whole", "half"):
        await kubectl.task(name, suspend=True)
        await supernode.wanting(f"default/{name}", lambda task: task.suspended)
    await supernode.deliver("default/whole")
    await supernode.deliver("default/half", cdn_status=CDNStatus.RUNNING, pieces_cached=4, ready_peers=())
    await kubectl.wait("jsonpath={.status.conditions[?(@.type=='Ready')].reason}=Suspended", "task/half")
    await kubectl.wait("condition=Ready", "task/whole")
    half = await kubectl.conditions("half")
    assert [half[each] for each in ("Ready", "Reconciling", "Stalled")] == [("False", "Suspended")] * 3
    await kubectl.task("half", suspend=False)
    await supernode.wanting("default/half", lambda task: not task.suspended)
    await supernode.deliver("default/half")
    await kubectl.wait("condition=Ready", "task/half")


async def test_headers_come_from_a_secret(kubectl: Kubectl, supernode: ServedSupernode, operator: Operator) -> None:
    """A missing Secret is said and nothing is fetched; once it is there, its keys are sent and nowhere shown."""
    await kubectl.task("private", headersFrom={"secretRef": {"name": "origin"}})
    await kubectl.wait("condition=Stalled", "task/private")
    conditions = await kubectl.conditions("private")
    assert conditions["Stalled"] == ("True", "SecretMissing")
    assert supernode.memory.wanted == {}
    await kubectl("create", "secret", "generic", "origin", "--from-literal=Authorization=Bearer s3cret")
    wanted = await supernode.wanting("default/private")
    assert wanted.headers == {"Authorization": "Bearer s3cret"}
    await kubectl("delete", "secret", "origin")
    assert "s3cret" not in json.dumps(await kubectl.get("task", "private")) + operator.log


async def test_a_missing_permission_is_said_and_healed(
    control_plane: ControlPlane, kubectl: Kubectl, supernode: ServedSupernode, tmp_path: Path
) -> None:
    """Without ``tasks/status`` it goes on, logs which permission is missing, and writes as soon as it is given."""
    await kubectl("create", "serviceaccount", "narrow", "-n", "default")
    rules = [
        {"apiGroups": ["pantala.dev"], "resources": ["tasks", "peers", "imageprefetches"], "verbs": ["*"]},
        {"apiGroups": ["pantala.dev"], "resources": ["peers/status"], "verbs": ["patch"]},
        {"apiGroups": [""], "resources": ["nodes"], "verbs": ["list", "watch"]},
        {"apiGroups": [""], "resources": ["events"], "verbs": ["create"]},
    ]
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "narrow"}}
    await kubectl.apply({**role, "rules": rules})
    await kubectl("create", "clusterrolebinding", "narrow", "--clusterrole=narrow", "--serviceaccount=default:narrow")
    config = yaml.safe_load(control_plane.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": (await kubectl("create", "token", "narrow")).strip()}
    (tmp_path / "narrow.kubeconfig").write_text(yaml.safe_dump(config))
    operator = Operator(control_plane, supernode, tmp_path)
    operator.start("--kubeconfig", str(tmp_path / "narrow.kubeconfig"))
    try:
        await kubectl.task("refused")
        await supernode.deliver("default/refused")
        await eventually(lambda: 'cannot patch resource \\"tasks/status\\"' in operator.log)
        rules.append({"apiGroups": ["pantala.dev"], "resources": ["tasks/status"], "verbs": ["patch"]})
        await kubectl.apply({**role, "rules": rules})
        await kubectl.wait("condition=Ready", "task/refused", timeout="30s")
        assert operator.returncode is None
    finally:
        await asyncio.to_thread(operator.stop)
        print(operator.log)


async def test_a_missing_crd_is_said_and_healed(
    kubectl: Kubectl, supernode: ServedSupernode, operator: Operator
) -> None:
    """Readiness says which CRD is missing; when it is back, Tasks are served again without a restart."""
    await kubectl("delete", "crd", "tasks.pantala.dev", "--timeout=20s")
    said = (503, ["CRD tasks.pantala.dev is not served; install crds/"])
    await eventually(lambda: operator.ask("/readyz") == said, within=40, what="readiness names the CRD")
    assert operator.ask("/healthz") == (200, [])
    await kubectl("apply", "--server-side", "-f", str(ROOT / "crds"))
    await kubectl("wait", "--for=condition=Established", "--all", "crd")
    await eventually(lambda: operator.ask("/readyz") == (200, []), within=40, what="it is ready again")
    await kubectl.task("late")
    await supernode.deliver("default/late")
    await kubectl.wait("condition=Ready", "task/late", timeout="30s")


async def test_peers_follow_nodes(kubectl: Kubectl, supernode: ServedSupernode, operator: Operator) -> None:
    """A Peer for each connected peer; one that somebody deletes comes back; one whose Node is gone goes."""
    await kubectl("create", "-f", "-", text=json.dumps({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "x"}}))
    await supernode.memory.connect("x", "stranger")
    await kubectl.wait("create", *(f"peer/{name}" for name in (*NODES, "x")))
    await kubectl.wait("condition=Ready", *(f"peer/{name}" for name in (*NODES, "x")))
    await kubectl("delete", "peer", "node-a")
    await kubectl.wait("create", "peer/node-a")
    await kubectl("delete", "node", "x")
    await kubectl.wait("delete", "peer/x")
    names = {peer["metadata"]["name"] for peer in (await kubectl.get("peers"))["items"]}
    assert set(NODES) == names


@pytest.fixture(params=["real", "memory"])
async def cluster(
    request: pytest.FixtureRequest, control_plane: ControlPlane, kubectl: Kubectl
) -> AsyncIterator[KubernetesCluster | MemoryCluster]:
    """Both adapters, with one Task and one Node: what the fake promises is what the API server does."""
    if request.param == "memory":
        fake = MemoryCluster()
        spec = {"source": {"url": URL}}
        fake.put("tasks", {"metadata": {"name": "t", "namespace": "default"}, "spec": spec})
        for name in NODES:
            fake.put("nodes", {"metadata": {"name": name}})
        yield fake
    else:
        await kubectl.task("t")
        real = await kubernetes.connect(str(control_plane.kubeconfig))
        yield real
        await real.close()


def named(name: str) -> TaskResource:
    return TaskResource(Metadata(name, "default"), TaskSpec(TaskSource(URL)))


T = named("t")


async def test_reading(cluster: KubernetesCluster | MemoryCluster) -> None:
    assert [] == await cluster.missing_kinds()
    assert ["default/t"] == [task.metadata.key for task in await cluster.list_all(TaskResource)]
    assert set(NODES) <= {node.metadata.name for node in await cluster.list_all(Node)}
    assert [] == await cluster.list_all(PeerResource)
    assert (await cluster.list_all(TaskResource))[0] == await cluster.read(T)
    with pytest.raises(ClusterNotFoundError):
        await cluster.read(named("other"))
    with pytest.raises(ClusterNotFoundError):
        await cluster.get_secret("default", "other")


async def test_a_status_is_written_as_a_whole_and_comes_back_as_it_was(
    cluster: KubernetesCluster | MemoryCluster,
) -> None:
    """A status that says nothing new changes no resource version, so that nobody is woken."""
    task = await cluster.read(T)
    now = datetime(2026, 1, 1, tzinfo=UTC)
    condition = Condition("Ready", "False", "R", "m", now, 1)
    status = TaskStatus(1, (condition,), "f" * 64, "RUNNING", peers=PeerCount(3, 0, 1, 0), start_time=now)
    written = await cluster.apply_status(task, status)
    assert status == written.status == (await cluster.read(T)).status
    again = await cluster.apply_status(written, status)
    assert written.metadata.resource_version == again.metadata.resource_version
    less = msgspec.structs.replace(status, cdn_status="", peers=None)
    assert less == (await cluster.apply_status(again, less)).status


async def test_what_was_read_before_a_change_is_not_written(cluster: KubernetesCluster | MemoryCluster) -> None:
    """Neither over a newer object, nor into a successor of the same name, nor into nothing."""
    task = await cluster.read(T)
    written = await cluster.apply_status(task, TaskStatus(1))
    with pytest.raises(ClusterConflictError):
        await cluster.apply_status(task, TaskStatus(2))
    stranger = msgspec.structs.replace(task, metadata=msgspec.structs.replace(task.metadata, uid="another"))
    with pytest.raises(ClusterConflictError):
        await cluster.delete(stranger)
    await cluster.delete(written)
    with pytest.raises(ClusterNotFoundError):
        await cluster.apply_status(written, TaskStatus(3))
    with pytest.raises(ClusterNotFoundError):
        await cluster.delete(written)


async def test_peers_are_made_once_and_go(cluster: KubernetesCluster | MemoryCluster) -> None:
    body = {"apiVersion": API_VERSION, "kind": "Peer", "metadata": {"name": "node-a"}}
    made = await cluster.apply(PeerResource, body)
    assert made.metadata.uid == (await cluster.apply(PeerResource, body)).metadata.uid
    status = PeerStatus(1, address="10.0.0.1:65002", cache=PeerCache(5, 1), succeeded=2)
    peer = (await cluster.list_all(PeerResource))[0]
    written = await cluster.apply_status(peer, status)
    assert status == written.status
    await cluster.delete(written)
    with pytest.raises(ClusterNotFoundError):
        await cluster.delete(written)
