"""``kubectl-pantala`` against a scripted API server, and its tables."""

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from pantala_cli import view
from pantala_cli.__main__ import main
from pantala_protocol import __version__

API = "/apis/pantala.dev/v1alpha1"


def task(name: str = "model", namespace: str = "default") -> dict[str, Any]:
    progressing = {"status": "False", "reason": "Progressing", "message": "1 of 2 nodes", "observedGeneration": 3}
    conditions = [{"type": kind, **progressing} for kind in ("Ready", "Stalled")]
    status = {
        "conditions": conditions,
        "contentLength": 104857600,
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
        "version": "0.1.0",
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
            ("GET", "/version"): (200, {"gitVersion": "v1.34.4"}),
        }
        self.asked: list[tuple[str, str, str, Any]] = []
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                length = int(self.headers.get("Content-Length", "0"))
                body = json.loads(self.rfile.read(length)) if length else None
                path = self.path.partition("?")[0].rstrip("/")
                fake.asked.append((self.command, path, self.headers.get("Authorization", ""), body))
                code, content = fake.answers.get((self.command, path), (404, "404 page not found\n"))
                is_page = isinstance(content, str)
                data = content.encode() if is_page else json.dumps(content).encode()
                self.send_response(code)
                self.send_header("Content-Type", "text/plain" if is_page else "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_PATCH = answer  # noqa: N815 - the base class's names

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]


@pytest.fixture
def api() -> Iterator[FakeAPIServer]:
    fake = FakeAPIServer()
    thread = threading.Thread(target=fake.server.serve_forever, kwargs={"poll_interval": 0.005})
    thread.start()
    yield fake
    fake.server.shutdown()
    fake.server.server_close()
    thread.join()


class Command:
    """The program, with a kubeconfig for the fake API server. It runs in the tests' process."""

    def __init__(self, folder: Path, port: int, output: pytest.CaptureFixture[str]) -> None:
        self.file = folder / "config"
        self._output = output
        self.configure(port, {"token": "t0ken"})

    def configure(self, port: int, user: dict[str, Any]) -> None:
        content = {
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
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


@pytest.fixture
def command(api: FakeAPIServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(tmp_path, api.port, capsys)


def test_the_program_starts() -> None:
    done = subprocess.run([sys.executable, "-m", "pantala_cli", "--help"], capture_output=True, text=True, check=True)
    assert "suspend" in done.stdout


def test_status_sums_up_each_task_of_one_or_all_namespaces(command: Command, api: FakeAPIServer) -> None:
    code, out, err = command("status")
    assert (0, "") == (code, err)
    heading, line = out.splitlines()
    assert ["NAME", "READY", "REASON", "PROGRESS", "PEERS", "SIZE", "ORIGIN", "AGE"] == heading.split()
    assert ["model", "False", "Progressing", "83%", "1/2", "100Mi", "1.00x"] == line.split()[:-1]
    assert "Bearer t0ken" == api.asked[0][2]
    code, out, _ = command("status", "-A")
    assert 0 == code
    assert [["default", "model"], ["other", "x"]] == [line.split()[:2] for line in out.splitlines()[1:]]


def test_status_of_one_task_says_why_and_shows_no_query(command: Command) -> None:
    code, out, _ = command("status", "model")
    assert 0 == code
    assert "1 of 2 nodes" in out
    assert "node-9: NodeDiskFull: no room" in out
    assert "https://host/f" in out
    assert "secret" not in out


def test_peers_are_shown(command: Command) -> None:
    code, out, _ = command("peers")
    shown = out.splitlines()[1].split()[:-1]
    assert (0, ["node-1", "True", "10.0.0.1:65002", "-", "1", "1Ki", "7", "0", "0.1.0"]) == (code, shown)


@pytest.mark.parametrize(("verb", "suspend"), [("suspend", True), ("resume", False)])
def test_suspend_and_resume(command: Command, api: FakeAPIServer, verb: str, suspend: bool) -> None:
    assert 0 == command(verb, "model")[0]
    assert ("PATCH", {"spec": {"suspend": suspend}}) == (api.asked[-1][0], api.asked[-1][3])


def test_retry_sets_the_annotation(command: Command, api: FakeAPIServer) -> None:
    assert 0 == command("retry", "model")[0]
    (value,) = api.asked[-1][3]["metadata"]["annotations"].items()
    assert ("pantala.dev/requested-at", "Z") == (value[0], value[1][-1])


def test_version(command: Command) -> None:
    assert (0, f"kubectl-pantala {__version__}\nKubernetes v1.34.4\npeers 0.1.0\n", "") == command("version")


@pytest.mark.parametrize(
    ("arguments", "answer", "expected"),
    [
        (("status", "gone"), None, "Task default/gone does not exist"),
        (("status", "a/../b"), refusal(404, 'tasks.pantala.dev "a" not found'), "does not exist"),
        (("status",), (404, "404 page not found\n"), "does not have Pantala's CRDs"),
        (("status",), refusal(404, "could not find the requested resource"), "does not have Pantala's CRDs"),
        (("status",), refusal(401, "Unauthorized"), "rejected your credentials"),
        (("status",), refusal(403, 'tasks is forbidden: User "u" cannot list'), 'User "u" cannot list'),
        (("suspend", "model"), refusal(403, "tasks is forbidden"), "You may not do this"),
        (("status",), refusal(500, "etcd is away"), "request for Tasks with 500: etcd is away"),
    ],
)
def test_a_failure_is_one_line_and_code_1(
    command: Command, api: FakeAPIServer, arguments: tuple[str, ...], answer: Any, expected: str
) -> None:
    if answer is not None:
        for key in list(api.answers):
            api.answers[key] = answer
        api.answers["GET", f"{API}/namespaces/default/tasks/a%2F..%2Fb"] = answer
    code, out, err = command(*arguments)
    assert (1, "") == (code, out)
    assert expected in err
    assert ("error: ", 1) == (err[:7], err.count("\n"))


def test_a_missing_api_server_is_reported(command: Command) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        command.configure(unused.getsockname()[1], {})
        code, _, err = command("status")
    assert (1, 1) == (code, err.count("\n"))
    assert "No API server answers" in err


@pytest.mark.parametrize("arguments", [("status", "--nonsense"), ("retry",), ("status", "x", "-A")])
def test_wrong_flags_are_code_2(command: Command, arguments: tuple[str, ...]) -> None:
    assert 2 == command(*arguments)[0]


NOW = datetime(2026, 1, 2, tzinfo=UTC)


def shown_task(*, generation: int = 1, **status: Any) -> dict[str, Any]:
    metadata = {"name": "n", "namespace": "s", "generation": generation, "creationTimestamp": "2026-01-01T23:59:00Z"}
    return {"metadata": metadata, "spec": {}, "status": status}


def moving(cached: int, desired: int = 3) -> dict[str, Any]:
    return {"contentLength": 100, "peers": {"desired": desired}, "pieces": {"total": 10, "cached": cached}}


def ready(status: str, generation: int = 1) -> list[dict[str, Any]]:
    return [{"type": "Ready", "status": status, "reason": "R", "message": "m", "observedGeneration": generation}]


def test_a_task_without_a_status() -> None:
    body = shown_task()
    del body["status"]
    assert ("s", "n", "Unknown", "NotSeenYet", "-", "-", "-", "-", "60s") == view.task_line(body, NOW)


def test_a_condition_of_a_former_generation_does_not_count() -> None:
    assert {} == view.condition(shown_task(generation=2, conditions=ready("True", 1)), "Ready")


@pytest.mark.parametrize(
    ("expected", "status"),
    [
        (None, {}),
        (1.0, {"conditions": ready("True")}),
        (0.0, moving(cached=0)),
        (0.125, moving(cached=5)),
        (0.99, {**moving(cached=10, desired=1), "bytes": {"distributed": 900}}),
        (0.0, {"contentLength": 0, "peers": {"desired": 3}}),
    ],
)
def test_progress_is_the_share_of_all_that_is_moved(expected: float | None, status: dict[str, Any]) -> None:
    assert expected == view.progress(shown_task(**status))


@pytest.mark.parametrize(
    ("count", "shown"), [(None, "-"), (0, "0"), (1023, "1023"), (1536, "1.5Ki"), (1 << 40, "1Ti"), (1 << 51, "2048Ti")]
)
def test_sizes(count: int | None, shown: str) -> None:
    assert shown == view.size(count)


@pytest.mark.parametrize(
    ("created", "shown"),
    [
        ("2026-01-01T23:59:15Z", "45s"),
        ("2026-01-01T23:48:00Z", "12m"),
        ("2026-01-01T21:00:00Z", "3h"),
        ("2025-12-24T00:00:00Z", "9d"),
        ("2026-01-02T00:00:09Z", "0s"),
    ],
)
def test_ages(created: str, shown: str) -> None:
    assert shown == view.age(created, NOW)
