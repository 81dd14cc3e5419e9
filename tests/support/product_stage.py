"""The whole product as processes on loopback: etcd, kube-apiserver, operator, supernode, three peers, and an origin."""

import asyncio
import hashlib
import json
import os
import ssl
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self

import aiohttp

from testbed.apiserver import ControlPlane
from testbed.origin import Body, Origin
from testbed.process import Process, free_ports
from tests.support.eventually import eventually

ROOT = Path(__file__).resolve().parents[2]
NODES = ("node-1", "node-2", "node-3")
MIB = 1024 * 1024
GRACE = 2.0
"""Seconds that a supernode keeps a task that is no longer wanted."""

Resource = dict[str, Any]
_GROUP = "/apis/pantala.dev/v1alpha1"
_TASKS = f"{_GROUP}/namespaces/default/tasks"
_LOOK = 0.25
"""Seconds between two checks."""


class ProductStage:
    """The running product, while its context is entered. It checks all Tasks and published files all the time."""

    def __init__(self, folder: Path, nodes: Sequence[str] = NODES) -> None:
        self.folder = folder
        self.nodes = tuple(nodes)
        self.control_plane = ControlPlane(folder / "control-plane")
        self.origin = Origin()
        self.processes: dict[str, Process] = {}
        self.tasks: dict[str, Resource] = {}
        """The newest state of each Task."""
        self.messages: dict[str, dict[tuple[str, str, str], str]] = defaultdict(dict)
        """All messages of each Task's conditions so far: Task -> (type, status, reason) -> message."""
        self.sizes: dict[str, set[int]] = {}
        """The sizes that a published file may have, by path. With an empty set, it must never appear."""
        self.lasting: set[str] = set()
        """The paths whose files must be on all nodes all the time."""
        self.violations: list[str] = []
        self._session: aiohttp.ClientSession
        self._running: AsyncExitStack
        self._ports = free_ports(3 + 2 * len(self.nodes) + 4)

    # Processes

    def supernode(self, *more: str, data: Path | None = None, number: int = 0) -> None:
        """Start the supernode, or a second or third one with ``number`` 1 or 2."""
        api, pieces = self._supernode_ports(number)
        name = f"supernode-{number}" if number else "supernode"
        self._run(
            name, "tests.controlplane.local_supernode",
            "--listen", f"127.0.0.1:{api}", "--piece-listen", f"127.0.0.1:{pieces}",
            "--data", str(data or self.folder / name), "--no-auth",
            "--allow-source", "127.0.0.0/8", *more,
            GRACE=str(GRACE),
        )  # fmt: skip

    def supernode_url(self, number: int = 0) -> str:
        return f"http://127.0.0.1:{self._supernode_ports(number)[0]}"

    def _supernode_ports(self, number: int) -> list[int]:
        return self._ports[-2 * number :][:2] if number else self._ports[:2]

    def operator(self, *more: str, pods: Sequence[str] = (), probes: bool = False) -> None:
        """Start the operator. With ``pods`` it finds the supernodes by the StatefulSet ``default/supernode``.

        ``probes``: it finds each peer's health port, too. All peers have the same address, so the ports differ.
        """
        urls = {pod: self.supernode_url(number) for number, pod in enumerate(pods)}
        which = ("--supernode-statefulset", "default/supernode") if pods else ("--supernode", self.supernode_url())
        self._run(
            "operator", "tests.controlplane.local_operator" if pods or probes else "pantala_operator",
            *which, "--health-listen", f"127.0.0.1:{self._ports[2]}",
            "--progress-interval", "0.5", "--supernode-patience", "3",
            "--kubeconfig", str(self.control_plane.kubeconfig), *more,
            PODS=json.dumps(urls), HEALTH=json.dumps({name: self.health_port(name) for name in self.nodes}),
        )  # fmt: skip

    def peer(self, name: str, *more: str, wrapper: Sequence[str] = (), api: int = 0) -> None:
        """Start a peer, inside of the modules of ``wrapper`` with their arguments. ``api``: the supernode's port."""
        number = self.nodes.index(name)
        listen, _ = self._ports[3 + 2 * number : 5 + 2 * number]
        module, *arguments = *wrapper, "pantala_peer"
        self._run(
            name, module, *arguments,
            "--name", name, "--supernode", f"http://127.0.0.1:{api or self._ports[0]}", "--root", str(self.root(name)),
            "--listen", f"127.0.0.1:{listen}", "--health-listen", f"127.0.0.1:{self.health_port(name)}", *more,
        )  # fmt: skip

    def health(self, name: str) -> str:
        """The address at which the operator or a peer serves its probes and metrics."""
        port = self._ports[2] if name == "operator" else self.health_port(name)
        return f"127.0.0.1:{port}"

    def health_port(self, name: str) -> int:
        return self._ports[4 + 2 * self.nodes.index(name)]

    def kill(self, name: str) -> None:
        """Kill a process, as in a crash."""
        self.processes[name].kill()

    def log(self, name: str) -> str:
        return self.processes[name].log.read_text(errors="replace")

    @property
    def data(self) -> Path:
        return self.folder / "supernode"

    def copy(self, number: int, task_id: str) -> Path:
        """The path of a task's copy on the supernode ``number`` (1 or 2). It need not exist."""
        return self.folder / f"supernode-{number}" / "tasks" / task_id[:2] / task_id

    def root(self, name: str) -> Path:
        return self.folder / name

    def published(self, path: str) -> dict[str, Path]:
        """The path of a published file, by node. It need not exist."""
        return {name: self.root(name) / "files" / path for name in NODES}

    def left(self, task_id: str) -> list[Path]:
        """The existing files of a task on the supernode's volume and in the peers' caches."""
        places = (self.data / "tasks", *(self.root(name) / "cache" for name in NODES))
        return [found for place in places if (found := place / task_id[:2] / task_id).exists()]

    def kept(self) -> list[Path]:
        """All files of the supernode and the peers. A file that disappears meanwhile may be missing."""
        walks = [os.walk(place) for place in (self.data, *(self.root(name) for name in NODES))]
        found = [Path(folder, name) for walk in walks for folder, _, names in walk for name in names]
        return [file for file in found if file.is_file() and not file.is_symlink()]

    # Tasks

    async def apply(self, name: str, url: str, **spec: Any) -> None:
        body = {
            "apiVersion": "pantala.dev/v1alpha1",
            "kind": "Task",
            "metadata": {"name": name},
            "spec": {"source": {"url": url}, **spec},
        }
        self.tasks[name] = await self.ask("POST", _TASKS, body)

    async def patch(self, name: str, change: Resource) -> None:
        self.tasks[name] = await self.ask("PATCH", f"{_TASKS}/{name}", change)

    async def delete(self, name: str) -> None:
        await self.ask("DELETE", f"{_TASKS}/{name}")

    async def ask(self, method: str, path: str, body: Resource | None = None) -> Resource:
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        async with self._session.request(
            method, self.control_plane.server + path, json=body, headers={"Content-Type": kind}
        ) as answer:
            found: Resource = await answer.json()
            assert answer.status < 300, f"{method} {path}: {answer.status} {found.get('message')}"
            return found

    def status(self, name: str) -> Resource:
        """The last status of a Task."""
        found: Resource = self.tasks.get(name, {}).get("status", {})
        return found

    def conditions(self, name: str) -> dict[str, tuple[str, str]]:
        """The conditions of a Task's newest generation: type -> (status, reason)."""
        generation = self.tasks.get(name, {}).get("metadata", {}).get("generation")
        found = self.status(name).get("conditions", ())
        return {c["type"]: (c["status"], c["reason"]) for c in found if c["observedGeneration"] == generation}

    def is_ready(self, name: str) -> bool:
        return self.conditions(name).get("Ready", ("",))[0] == "True"

    async def joined(self) -> None:
        """Wait until each node has a Peer. A Task is Ready on the nodes with a Peer, so a later one changes that."""

        async def known() -> bool:
            listed = (await self.ask("GET", f"{_GROUP}/peers"))["items"]
            return {peer["metadata"]["name"] for peer in listed}.issuperset(self.nodes)

        await eventually(known, what="each node has a Peer")

    async def ready(self, *names: str, seconds: float = 30) -> None:
        for name in names:
            await self.until(lambda name=name: self.is_ready(name), f"{name} is Ready", seconds)  # type: ignore[misc]

    async def says(self, name: str, *reasons: str, kind: str = "", seconds: float = 30) -> str:
        """Wait until Stalled or Reconciling (or ``kind``) has had one of ``reasons``. Returns its message."""
        kinds = {kind} if kind else {"Stalled", "Reconciling"}

        def found() -> list[str]:
            seen = self.messages[name].items()
            return [message for (k, s, r), message in seen if k in kinds and s == "True" and r in reasons]

        await self.until(found, f"{name} says {' or '.join(reasons)}", seconds)
        return found()[0]

    async def until(self, condition: Callable[[], object], what: str, seconds: float = 30) -> None:
        """Wait until ``condition`` returns true. ``what`` begins with a Task's name; a failure shows its conditions."""

        def described() -> str:
            name = what.partition(" ")[0]
            return f"{what}\n{self.conditions(name)}\n{sorted(self.messages[name])}" if name in self.tasks else what

        await eventually(condition, within=seconds, every=0.05, what=described)

    def assert_held(self, path: str, body: Body, nodes: Iterable[str] = NODES) -> None:
        """Assert that exactly these nodes have the file, with the right bytes."""
        right = _sha256(body.read(0, body.size))
        found = {name: _sha256(at.read_bytes()) for name, at in self.published(path).items() if at.exists()}
        assert dict.fromkeys(nodes, right) == found

    # Life

    async def __aenter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.origin)
            stack.callback(self.control_plane.stop)
            self.control_plane.start()
            stack.callback(self.control_plane.stop_apiserver)
            kubectl = self.control_plane.kubectl
            kubectl("apply", "--server-side", "-f", str(ROOT / "crds"))
            nodes = [
                {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"name": name}}}
                for name in self.nodes
            ]
            kubectl("create", "-f", "-", text=json.dumps({"apiVersion": "v1", "kind": "List", "items": nodes}))
            kubectl("taint", "nodes", "--all", "node.kubernetes.io/not-ready-")
            kubectl("wait", "--for=condition=Established", "--timeout=30s", "--all", "crd")
            context = ssl.create_default_context(cafile=str(self.control_plane.certificate_authority))
            pki = self.control_plane.directory / "pki"
            context.load_cert_chain(pki / "admin.crt", pki / "admin.key")
            connector, timeout = aiohttp.TCPConnector(ssl=context), aiohttp.ClientTimeout(total=20)
            self._session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector, timeout=timeout))
            stack.callback(self._kill_all)
            looking = asyncio.create_task(self._look())
            stack.callback(looking.cancel)
            self._running = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._running.aclose()

    def _kill_all(self) -> None:
        for process in self.processes.values():
            process.kill()

    async def _look(self) -> None:
        while True:
            try:
                listed = await self.ask("GET", _TASKS)
            except (aiohttp.ClientError, TimeoutError, AssertionError, OSError):
                pass  # a test may have stopped the API server
            else:
                seen = {item["metadata"]["name"]: item for item in listed["items"]}
                self.tasks = {name: max(seen[name], self.tasks.get(name, seen[name]), key=_version) for name in seen}
            for name, task in self.tasks.items():
                self._note(name, task)
            for path, sizes in self.sizes.items():
                for node, at in self.published(path).items():
                    if at.exists() and at.stat().st_size not in sizes:
                        self.violations.append(f"{path} on {node} has {at.stat().st_size} bytes, not {sizes or 'none'}")
            for path in self.lasting:
                gone = [node for node, at in self.published(path).items() if not at.exists()]
                self.violations += [f"{path} is gone from {node}" for node in gone]
            await asyncio.sleep(_LOOK)

    def _note(self, name: str, task: Resource) -> None:
        conditions = task.get("status", {}).get("conditions", ())
        for each in conditions:
            self.messages[name].setdefault((each["type"], each["status"], each["reason"]), each["message"])
        true = {each["type"] for each in conditions if each["status"] == "True"}
        if len(true & {"Ready", "Reconciling", "Stalled"}) > 1:
            self.violations.append(f"{name} is {sorted(true)} all at once")

    def _run(self, name: str, module: str, *arguments: str, **variables: str) -> None:
        log = self.folder / f"{name}.log"
        environment = {**os.environ, **variables} if variables else None
        self.processes[name] = Process([sys.executable, "-m", module, *arguments], log, environment)


def _version(task: Resource) -> int:
    return int(task["metadata"]["resourceVersion"])


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
