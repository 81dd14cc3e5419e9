"""A scripted API server, a scripted console, and the program ``kubectl-pantala`` in the tests' process."""

import contextlib
import io
import json
import re
import threading
from collections.abc import Iterator
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from rich.console import Console as RichConsole
from rich.console import RenderableType
from rich.table import Table

from pantala_cli.__main__ import main
from pantala_protocol import __version__
from pantala_protocol.console.views import (
    Cause,
    Console,
    Edge,
    Moment,
    NodeCounts,
    NodeFlow,
    NodePhase,
    NodeView,
    PeerView,
    SupernodeState,
    TaskDetail,
    TaskSummary,
    Traffic,
)

API = "/apis/pantala.dev/v1alpha1"
HOSTILE = "no room\x1b]0;title\x07\x1b[2Jgone\nspoofed  True  Distributed\x9b31m"
"""A text that steers a terminal which shows it as it is."""


def task(name: str = "model", namespace: str = "default") -> dict[str, Any]:
    progressing = {"status": "False", "reason": "Progressing", "message": "1 of 2 nodes", "observedGeneration": 3}
    conditions = [{"type": kind, **progressing} for kind in ("Ready", "Stalled")]
    status = {
        "conditions": conditions,
        "contentLength": 104857600,
        "progress": "83%",
        "pieces": {"total": 100, "cached": 100},
        "peers": {"desired": 2, "ready": 1},
        "bytes": {"origin": 104857600, "distributed": 157286400, "fromSupernode": 104857600, "fromPeers": 52428800},
        "failures": [{"node": "node-9", "reason": "NodeDiskFull", "message": "no room"}],
    }
    metadata = {"name": name, "namespace": namespace, "generation": 3, "creationTimestamp": "2020-01-01T00:00:00Z"}
    return {"metadata": metadata, "spec": {"source": {"url": "https://host/f?secret=1"}}, "status": status}


PEER = {
    "metadata": {"name": "node-1", "creationTimestamp": "2020-01-01T00:00:00Z"},
    "status": {
        "conditions": [{"type": "Ready", "status": "True", "reason": "Heard"}],
        "address": "10.0.0.1:65002",
        "version": __version__,
        "cache": {"bytes": 1024, "tasks": 1},
        "succeeded": 7,
    },
}


def refusal(code: int, message: str) -> tuple[int, dict[str, Any]]:
    return code, {"kind": "Status", "message": message, "code": code}


class FakeAPIServer:
    def __init__(self) -> None:
        self.answers: dict[tuple[str, str], tuple[int, Any]] = {
            ("GET", f"{API}/namespaces/default/tasks"): (200, {"items": [task()]}),
            ("GET", f"{API}/tasks"): (200, {"items": [task(), task("x", "other")]}),
            ("GET", f"{API}/namespaces/default/tasks/model"): (200, task()),
            ("PATCH", f"{API}/namespaces/default/tasks/model"): (200, task()),
            ("GET", f"{API}/namespaces/default/tasks/gone"): refusal(404, 'tasks.pantala.dev "gone" not found'),
            ("GET", f"{API}/peers"): (200, {"items": [PEER]}),
            ("GET", "/api/v1/pods"): (200, {"items": []}),
            ("GET", "/version"): (200, {"gitVersion": "v1.34.4"}),
        }
        self.asked: list[tuple[str, str, str, Any]] = []
        self.queries: list[str] = []
        self.headers: list[Message] = []
        self.tokens: set[str] = set()
        """The valid tokens. Empty: all are."""
        self.watches: dict[str, list[tuple[int, Any]]] = {}
        """The answers to watches of a path, in this order."""
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                length = int(self.headers.get("Content-Length", "0"))
                body = json.loads(self.rfile.read(length)) if length else None
                path, _, query = self.path.partition("?")
                path = path.rstrip("/")
                fake.queries.append(query)
                fake.headers.append(self.headers)
                fake.asked.append((self.command, path, self.headers.get("Authorization", ""), body))
                code, content = fake.answers.get((self.command, path), (404, "404 page not found\n"))
                if fake.tokens and self.headers.get("Authorization", "").removeprefix("Bearer ") not in fake.tokens:
                    code, content = refusal(401, "Unauthorized")
                elif "watch=1" in query:
                    code, content = fake.watches[path].pop(0)
                is_page = isinstance(content, str)
                data = content.encode() if is_page else json.dumps(content).encode()
                self.send_response(code)
                self.send_header("Content-Type", "text/plain" if is_page else "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_PATCH = do_POST = do_DELETE = answer  # noqa: N815 - the base class's names

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]


def swarm() -> tuple[Console, TaskDetail]:
    """A console in the middle of a download: one node is ready, one fetches, one is late, one failed."""
    summary = TaskSummary(
        kind="Task", namespace="default", name="model", ready="False", reason="NodeSilent",
        message="2 of 4 nodes have the file. node-c is silent.", created=1000.0, length=1 << 30, cached=1 << 30,
        progress=0.5, eta=75.0, nodes=NodeCounts(desired=4, ready=1, fetching=1, late=1, failed=1),
        traffic=Traffic(1 << 30, 1 << 30, 3 << 29, 0, 10 << 20, 30 << 20),
    )  # fmt: skip
    nodes = (
        NodeView("node-a", NodePhase.READY, bytes=1 << 30),
        NodeView(
            "node-b", NodePhase.FETCHING, bytes=1 << 29, rate=40 << 20, eta=75.0,
            flows=(NodeFlow("supernode", 1 << 28, 10 << 20), NodeFlow("node-a", 1 << 28, 30 << 20)),
        ),
        NodeView(
            "node-c", NodePhase.LATE, bytes=1 << 20, reason="NodeSilent", message="Nothing came for 20 s.",
            action="Check that the node runs.", since=1100.0,
        ),
        NodeView("node-d", NodePhase.FAILED, reason="NodeDiskFull", message="no room", action="Free space.", since=900),
    )  # fmt: skip
    causes = (
        Cause(
            "NodeSilent", "1 node is silent.", "Check that the node runs.", ("It last exchanged 20 s ago.",),
            ("node-c",), 1100.0,
        ),
        Cause("NodeDiskFull", "1 node has no room.", "Free space.", (), ("node-d",), 900.0),
    )  # fmt: skip
    detail = TaskDetail(summary, nodes, causes, (Moment(1000.0, "Created", "The Task was created."),))
    peers = tuple(
        PeerView(f"node-{each}", "True", "Connected", zone="z1", rate_in=rate, version=__version__)
        for each, rate in zip("abcd", (0, 40 << 20, 0, 0), strict=True)
    )
    console = Console(
        at=1200.0, version=__version__, leads=True, tasks=(summary,), peers=peers,
        supernodes=(SupernodeState("supernode-0", answers=True, volume_bytes=100 << 30, volume_free=50 << 30),),
        edges=(Edge("supernode", "node-b", 10 << 20), Edge("node-a", "node-b", 30 << 20)),
        traffic=summary.traffic, saved=3 << 29,
    )  # fmt: skip
    return console, detail


class FakeConsole:
    """The operator's console with messages that a test chooses."""

    def __init__(self) -> None:
        self.console, detail = swarm()
        self.details: dict[tuple[str, ...], TaskDetail] = {("tasks", "default", "model"): detail}
        self.asked: list[str] = []
        self.broken = False
        """True: each answer is an error."""
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                fake.asked.append(self.path)
                parts = self.path.partition("?")[0].removeprefix("/api/v1/console").strip("/").split("/")
                found: Any = fake.console if parts == [""] else fake.details.get(tuple(parts))
                data = b"{}" if found is None else msgspec.json.encode(found)
                self.send_response(503 if fake.broken else 404 if found is None else 200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"


@contextlib.contextmanager
def serving(server: ThreadingHTTPServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.005})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Command:
    """The program, with a kubeconfig for the fake API server. It runs in the tests' process."""

    def __init__(self, folder: Path, port: int, output: pytest.CaptureFixture[str]) -> None:
        self.file = folder / "config"
        self._output = output
        self.configure(port, {"token": "t0ken"})

    def configure(self, port: int, user: dict[str, Any], **cluster: str) -> None:
        content = {
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{port}"} | cluster}],
            "users": [{"name": "u", "user": user}],
        }
        self.file.write_text(yaml.safe_dump(content))

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("KUBECONFIG", str(self.file))
            patch.setattr("sys.argv", ["kubectl-pantala", *arguments])
            with pytest.raises(SystemExit) as ended:
                main()
        output, errors = self._output.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, output, errors


def rendered(content: RenderableType, width: int = 1000) -> str:
    """The text of a picture on a wide screen."""
    file = io.StringIO()
    RichConsole(file=file, width=width).print(content)
    return file.getvalue()


def cells(table: Table) -> list[list[str]]:
    """The heading and the lines of a table. Cells must not contain two spaces."""
    return [re.split(r"  +", line.strip()) for line in rendered(table).splitlines()]
