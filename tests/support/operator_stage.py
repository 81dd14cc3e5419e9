"""The whole operator with a fake API server and fake supernodes in memory. It runs in virtual time."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from pantala_operator.app import App
from pantala_operator.resources import conditions
from pantala_operator.settings import Settings
from pantala_process.settings import ListenAddress
from pantala_protocol.statement import CDNStatus, TaskReport
from tests.support.cluster import MemoryCluster
from tests.support.eventually import eventually
from tests.support.supernode import MemorySupernode

URL = "http://origin.example/f"


class LoopClock:
    """A :class:`pantala_operator.ports.Clock` that shows the event loop's time, which may be virtual."""

    def now(self) -> datetime:
        return (datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.monotonic())).replace(microsecond=0)

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()


class MemoryProbe:
    """A :class:`pantala_operator.ports.HealthProbe` whose answers a test writes."""

    def __init__(self, answers: dict[str, bool], asked: list[str]) -> None:
        self._answers = answers
        self._asked = asked

    async def answers(self, name: str, host: str) -> bool:
        assert host
        self._asked.append(name)
        return self._answers.get(name, False)

    async def close(self) -> None: ...


class OperatorStage:
    """The fakes and the operators of one test. All Tasks are in the namespace ``ns``."""

    def __init__(self, *names: str, **settings: Any) -> None:
        """``names``: the supernodes of the StatefulSet ``ns/s``. Without names, there is one supernode by URL."""
        self.clock = LoopClock()
        self.cluster = MemoryCluster()
        self.answers: dict[str, bool] | None = None
        """Whether a peer's health port answers, by node. ``None``: the operator asks no peer."""
        self.asked: list[str] = []
        """The nodes whose peers the operator asked."""
        self.supernodes = {name: MemorySupernode() for name in names or ("",)}
        which: dict[str, Any] = {"supernode_statefulset": "ns/s"} if names else {"supernode": ("http://memory",)}
        defaults = {"relist_interval": 3600, "progress_interval": 0.5, "supernode_patience": 0.2}
        self.settings = Settings(health_listen=ListenAddress("127.0.0.1", 0), **which, **{**defaults, **settings})

    @property
    def supernode(self) -> MemorySupernode:
        """The first supernode."""
        return next(iter(self.supernodes.values()))

    def change(self, **settings: Any) -> None:
        """Change settings of the operators that start later."""
        self.settings = replace(self.settings, **settings)

    def node(self, name: str, *, labels: dict[str, str] | None = None, **spec: Any) -> None:
        self.cluster.put("nodes", {"metadata": {"name": name, "labels": labels or {}}, "spec": spec})

    async def connect(self, *names: str) -> None:
        """Create nodes, each with a peer that is connected to all supernodes."""
        for name in names:
            self.node(name)
        for supernode in self.supernodes.values():
            await supernode.connect(*names)

    def task(self, name: str = "t", *, watched: bool = True, **spec: Any) -> None:
        spec.setdefault("source", {"url": URL})
        metadata = {"name": name, "namespace": "ns"}
        self.cluster.put("tasks", {"metadata": metadata, "spec": spec}, watched=watched)

    def secret(self, name: str = "s", **data: bytes) -> None:
        """Create a Secret that Tasks and ImagePrefetches may use. A name in ``data`` has ``_`` instead of its dots."""
        values = {key.replace("_", "."): base64.b64encode(value).decode() for key, value in data.items()}
        metadata = {"name": name, "namespace": "ns", "labels": {"pantala.dev/allow": "tasks"}}
        self.cluster.put("secrets", {"metadata": metadata, "data": values})

    def condition(self, kind: str = "Ready", name: str = "t") -> tuple[str, str]:
        """The status and reason of the condition ``kind`` of the Task ``name``."""
        found = conditions.find(self.cluster.task(f"ns/{name}").status.conditions, kind)
        return (found.status, found.reason) if found is not None else ("", "")

    async def until(self, kind: str, *expected: str, name: str = "t") -> None:
        """Wait until a Task's condition has the ``expected`` status, or status and reason."""
        await eventually(lambda: self.condition(kind, name)[: len(expected)] == expected, what=f"{name}: {expected}")

    async def ready(self, name: str = "t") -> None:
        await self.until("Ready", "True", name=name)

    async def deliver(self, name: str = "t", supernode: str = "", **changes: Any) -> None:
        """Wait for the Task in a statement. Then let the supernode report it as done, with ``changes``."""
        reporter = self.supernodes[supernode]
        await eventually(lambda: f"ns/{name}" in reporter.wanted)
        wanted = reporter.wanted[f"ns/{name}"]
        done = TaskReport(wanted.uid, wanted.task_id, wanted.attempt, CDNStatus.SUCCESS, 8, ready_peers=wanted.peers)
        await reporter.report(msgspec.structs.replace(done, **changes))

    async def finish(self, name: str = "t", supernode: str = "") -> None:
        """Let the supernode report a Task as done, and wait until it is Ready."""
        await self.deliver(name, supernode)
        await self.ready(name)

    def app(self) -> App:
        def connect(url: str) -> MemorySupernode:
            return self.supernodes[url.removeprefix("http://").partition(".")[0] if len(self.supernodes) > 1 else ""]

        probe = None if self.answers is None else MemoryProbe(self.answers, self.asked)
        return App(self.settings, self.cluster, connect, self.cluster.watch, self.clock, probe=probe)

    @asynccontextmanager
    async def operator(self) -> AsyncIterator[App]:
        """Run an operator. Yields when it is ready, or when the API server or the supernodes prevent that."""
        app = self.app()
        running = asyncio.create_task(app.run())
        with suppress(AssertionError):
            await eventually(lambda: running.done() or not app.problems(), within=2)
        try:
            yield app
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running
