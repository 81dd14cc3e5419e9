"""The operator as a process between a real API server and a fake supernode that speaks HTTP."""

import asyncio
import json
import os
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import msgspec
from aiohttp import web

from pantala_operator.errors import SupernodeRefusedError
from pantala_protocol.registry import RESOLVE, Resolve
from pantala_protocol.statement import CDNStatus, Statement, TaskReport, WantedTask
from testbed.apiserver import ControlPlane
from testbed.process import Process, free_ports
from tests.support.eventually import eventually
from tests.support.supernode import MemorySupernode

NODES = ("node-a", "node-b", "node-c")
URL = "http://origin.example/file"


class ServedSupernode(MemorySupernode):
    """The fake supernode behind the real HTTP routes. It keeps its port when it is stopped and started."""

    def __init__(self) -> None:
        super().__init__()
        self.port = free_ports(1)[0]
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application()
        app.router.add_put("/api/v1/statement", self._serve_statement)
        app.router.add_get("/api/v1/changes", self._serve_changes)
        app.router.add_get("/api/v1/progress", self._serve_progress)
        app.router.add_post(RESOLVE, self._serve_resolve)
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def deliver(self, name: str, **changes: Any) -> None:
        """Let the supernode report a Task as done, with ``changes`` to that report."""
        wanted = await self.wanting(name)
        done = TaskReport(wanted.uid, wanted.task_id, wanted.attempt, CDNStatus.SUCCESS, 1 << 20)
        changes = {"origin_bytes": 1 << 20, "ready_peers": wanted.peers, **changes}
        await self.report(msgspec.structs.replace(done, **changes))

    async def wanting(self, name: str, condition: Callable[[WantedTask], object] = bool) -> WantedTask:
        """Wait until the operator's statement has the Task and it meets ``condition``. Returns it."""

        def met() -> WantedTask | None:
            return self.wanted[name] if name in self.wanted and condition(self.wanted[name]) else None

        return await eventually(met, what=f"{name} is stated")

    async def _serve_statement(self, request: web.Request) -> web.Response:
        try:
            receipt = await self.state(msgspec.json.decode(await request.read(), type=Statement))
        except SupernodeRefusedError as error:
            return web.json_response({"error": {"reason": "Conflict", "message": str(error)}}, status=409)
        return web.Response(body=msgspec.json.encode(receipt))

    async def _serve_progress(self, _: web.Request) -> web.Response:
        found = await self.progress()
        return web.Response(status=404) if found is None else web.Response(body=msgspec.json.encode(found))

    async def _serve_resolve(self, request: web.Request) -> web.Response:
        answer = await self.resolve(msgspec.json.decode(await request.read(), type=Resolve))
        return web.Response(body=msgspec.json.encode(answer))

    async def _serve_changes(self, request: web.Request) -> web.Response:
        query = request.query
        changes = await self.changes(query["boot"], int(query["since"]), float(query["wait"]))
        return web.Response(body=msgspec.json.encode(changes))


class OperatorProcess:
    """An operator as a process, which can be stopped and started again."""

    def __init__(
        self,
        control_plane: ControlPlane,
        supernode: ServedSupernode,
        directory: Path,
        name: str = "operator",
        kubeconfig: Path | None = None,
    ) -> None:
        """``kubeconfig``: of another user than the administrator."""
        self._port = free_ports(1)[0]
        self._log = directory / f"{name}.log"
        self._arguments = [
            *("--supernode", f"http://127.0.0.1:{supernode.port}"),
            *("--kubeconfig", str(kubeconfig or control_plane.kubeconfig)),
            *("--health-listen", f"127.0.0.1:{self._port}"),
            *("--supernode-patience", "2"),
        ]
        self._process: Process | None = None

    def start(self, *more: str) -> None:
        command = [sys.executable, "-m", "pantala_operator", *self._arguments, *more]
        self._process = Process(command, self._log)

    def stop(self) -> None:
        if self._process is not None:
            self._process.stop()

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)

    @asynccontextmanager
    async def running(self, *more: str) -> AsyncIterator[Self]:
        self.start(*more)
        try:
            yield self
        finally:
            await asyncio.to_thread(self.stop)
            print(self.log)  # pytest shows it when the test fails

    async def ready(self, within: float = 20) -> None:
        await eventually(lambda: self.ask("/readyz") == (200, []), within=within)

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def returncode(self) -> int | None:
        return self._process.returncode if self._process is not None else None

    def ask(self, path: str) -> tuple[int, list[str]]:
        """Request a health probe. Returns its status and reasons; status 0 while the operator does not listen."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}{path}", timeout=5) as answer:
                return answer.status, json.load(answer)["reasons"]
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)["reasons"]
        except OSError:
            return 0, []


class Kubectl:
    """Runs kubectl in a thread, so that it does not block the event loop."""

    def __init__(self, control_plane: ControlPlane) -> None:
        self._run = control_plane.kubectl

    async def __call__(self, *arguments: str, text: str | None = None, check: bool = True) -> str:
        return await asyncio.to_thread(self._run, *arguments, text=text, check=check)

    async def apply(self, body: dict[str, Any]) -> None:
        await self("apply", "-f", "-", text=json.dumps(body))

    async def create(self, kind: str, name: str, spec: dict[str, Any]) -> None:
        """Apply one of our resources."""
        metadata = {"name": name, "namespace": "default"}
        await self.apply({"apiVersion": "pantala.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec})

    async def task(self, name: str, **spec: Any) -> None:
        await self.create("Task", name, {"source": {"url": URL}, **spec})

    async def get(self, *arguments: str) -> dict[str, Any]:
        return dict(json.loads(await self("get", *arguments, "-o", "json")))

    async def wait(self, condition: str, *names: str, timeout: str = "20s") -> None:
        await self("wait", f"--for={condition}", f"--timeout={timeout}", *names)

    async def conditions(self, name: str) -> dict[str, tuple[str, str]]:
        """A Task's conditions as type -> (status, reason)."""
        status = (await self.get("task", name)).get("status", {})
        return {each["type"]: (each["status"], each["reason"]) for each in status.get("conditions", ())}


@dataclass
class ProcessStage:
    """The operator as a process, between a real API server and a fake supernode."""

    kubectl: Kubectl
    supernode: ServedSupernode
    operator: OperatorProcess

    async def finish(self, name: str) -> None:
        """Report a Task as done, and wait until it is Ready."""
        await self.supernode.deliver(f"default/{name}")
        await self.kubectl.wait("condition=Ready", f"task/{name}")
