"""``kubectl pantala`` with a real API server, and as a plugin of a real kubectl."""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pantala_cli.__main__ import run
from testbed.apiserver import ControlPlane
from testbed.binaries import assets
from tests.support.eventually import eventually_blocking

pytestmark = pytest.mark.controlplane

API = "pantala.dev/v1alpha1"
TEAM = "team-a"


class Plugin:
    """The program with the kubeconfig of an administrator."""

    def __init__(self, control_plane: ControlPlane) -> None:
        self.control_plane = control_plane
        self.environment = os.environ | {"KUBECONFIG": str(control_plane.kubeconfig)}

    def __call__(self, *arguments: str, code: int = 0, text: str = "") -> str:
        """Run a command in the tests' process, which is faster than a new one. Returns all output."""
        output = io.StringIO()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("KUBECONFIG", str(self.control_plane.kubeconfig))
            patch.setattr("sys.stdin", io.StringIO(text))
            patch.setattr("pantala_cli.commands.nodes._EVERY", 0.05)
            patch.setattr("pantala_cli.commands.waiting._EVERY", 0.1)
            with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
                ended = run(list(arguments))
        assert code == ended, output.getvalue()
        return output.getvalue()

    def apply(self, kind: str, name: str, spec: dict[str, Any], namespace: str = "default", **labels: str) -> None:
        metadata = {"name": name, "namespace": namespace, "labels": labels}
        body = {"apiVersion": API, "kind": kind, "metadata": metadata, "spec": spec}
        self.control_plane.kubectl("apply", "-f", "-", text=json.dumps(body))

    def status(self, kind: str, name: str, status: dict[str, Any]) -> None:
        patch = json.dumps({"status": status})
        self.control_plane.kubectl("patch", kind, name, "--subresource=status", "--type=merge", "-p", patch)

    def list(self, kind: str) -> list[dict[str, Any]]:
        return list(json.loads(self.control_plane.kubectl("get", kind, "-o", "json"))["items"])

    def read(self, kind: str, name: str) -> dict[str, Any]:
        return dict(json.loads(self.control_plane.kubectl("get", kind, name, "-o", "json")))


def condition(kind: str, status: str, reason: str, message: str) -> dict[str, str]:
    at = "2026-01-01T00:00:00Z"
    return {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": at}


@pytest.fixture(scope="module")
def plugin(control_plane: ControlPlane) -> Plugin:
    control_plane.kubectl("create", "namespace", TEAM)
    nodes = [
        {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"disk": disk}}}
        for name, disk in (("node-a", "ssd"), ("node-b", "ssd"), ("node-c", "hdd"))
    ]
    peers = [{"apiVersion": API, "kind": "Peer", "metadata": {"name": name}} for name in ("node-a", "node-b", "node-c")]
    everything = json.dumps({"apiVersion": "v1", "kind": "List", "items": nodes + peers})
    control_plane.kubectl("apply", "-f", "-", text=everything)
    control_plane.kubectl("taint", "nodes", "--all", "node.kubernetes.io/not-ready-", check=False)
    return Plugin(control_plane)


@pytest.fixture(autouse=True)
def _clean(control_plane: ControlPlane) -> Iterator[None]:
    yield
    control_plane.kubectl("delete", "tasks.pantala.dev,imageprefetches", "--all", "--all-namespaces", check=False)


def test_get_as_kubectl_does(plugin: Plugin) -> None:
    source = {"source": {"url": "https://origin.example/f"}}
    plugin.apply("Task", "one", source, app="x")
    plugin.apply("Task", "two", source, TEAM)
    plugin.apply("ImagePrefetch", "web", {"images": [{"image": "nginx:1.29"}]})
    assert ["one"] == [line.split()[0] for line in plugin("get", "tasks").splitlines()[1:]]
    assert ["two"] == [line.split()[0] for line in plugin("-n", TEAM, "get", "tasks", "--no-headers").splitlines()]
    assert [[TEAM, "two"], ["default", "one"]] == sorted(
        (line.split()[:2] for line in plugin("get", "tasks", "-A").splitlines()[1:]), reverse=True
    )
    assert "No Tasks in namespace default." in plugin("get", "tasks", "-l", "app=y")
    assert "task.pantala.dev/one\n" == plugin("get", "tasks", "-l", "app=x", "-o", "name")
    assert "imageprefetch.pantala.dev/web\n" == plugin("get", "image/web", "-o", "name")
    shown = json.loads(plugin("get", "task/one", "-o", "json"))
    assert (API, "Task", "one") == (shown["apiVersion"], shown["kind"], shown["metadata"]["name"])
    peers = yaml.safe_load(plugin("get", "peers", "-o", "yaml"))
    assert ["Peer"] * 3 == [each["kind"] for each in peers["items"]]
    assert "Task default/absent does not exist" in plugin("get", "task", "absent", code=1)


def test_a_watch_shows_each_change(plugin: Plugin) -> None:
    plugin.apply("Task", "one", {"source": {"url": "https://origin.example/f"}})
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "pantala_cli", "get", "tasks", "-w"],
        env=plugin.environment, stdout=subprocess.PIPE, text=True,
    ) as watch:  # fmt: skip
        assert watch.stdout is not None
        assert watch.stdout.readline().startswith("NAME")
        assert watch.stdout.readline().split()[:3] == ["one", "Unknown", "NotSeenYet"]
        plugin.status("tasks.pantala.dev", "one", {"conditions": [condition("Ready", "False", "Progressing", "m")]})
        assert watch.stdout.readline().split()[:3] == ["one", "False", "Progressing"]
        plugin.apply("Task", "two", {"source": {"url": "https://origin.example/f"}})
        assert watch.stdout.readline().split()[:2] == ["two", "Unknown"]
        watch.send_signal(signal.SIGINT)
        assert 130 == watch.wait(10)


def test_create_control_and_wait(plugin: Plugin) -> None:
    created = plugin("fetch", "https://origin.example/model.bin", "--name", "model", "--nodes", "disk=ssd")
    assert "task.pantala.dev/model created\n" == created
    assert {"disk": "ssd"} == plugin.read("tasks.pantala.dev", "model")["spec"]["target"]["nodeSelector"]
    assert "exists already" in plugin("fetch", "https://origin.example/model.bin", "--name", "model", code=1)
    plugin("prefetch", "nginx:1.29", "--name", "web")
    plugin("suspend", "task/model", "image/web")
    assert plugin.read("imageprefetches", "web")["spec"]["suspend"]
    plugin("resume", "model")
    plugin("retry", "model")
    body = plugin.read("tasks.pantala.dev", "model")
    assert (False, True) == (
        body["spec"].get("suspend", False),
        "pantala.dev/requested-at" in body["metadata"]["annotations"],
    )
    refused = plugin("fetch", "https://origin.example/f", "--name", "Wrong_Name", code=1)
    assert (1, True) == (refused.count("\n"), "rejected" in refused)
    assert "is not Ready after 1 s" in plugin("wait", "task/model", "--timeout", "1s", code=1)
    handled = body["metadata"]["annotations"]["pantala.dev/requested-at"]
    ready = {"conditions": [condition("Ready", "True", "Distributed", "m")], "lastHandledRequest": handled}
    later = threading.Timer(0.5, plugin.status, ("tasks.pantala.dev", "model", ready))
    later.start()
    assert "task.pantala.dev/model condition met" in plugin("wait", "task/model", "--timeout", "30s")
    later.join()
    stalled = [condition("Ready", "False", "SourceNotFound", "404. Check it."), condition("Stalled", "True", "x", "m")]
    plugin.status("imageprefetches", "web", {"conditions": stalled})
    failed = plugin("wait", "image/web", code=1)
    assert "SourceNotFound: 404. Check it. More: kubectl pantala explain imageprefetch/web" in failed


def test_plan_writes_nothing(plugin: Plugin, tmp_path: Path) -> None:
    plugin.apply("Task", "old", {"source": {"url": "https://origin.example/f"}, "path": "default/models/m"})
    plugin.status("tasks.pantala.dev", "old", {"contentLength": 1 << 20, "path": "default/models/m"})
    body = {
        "apiVersion": API,
        "kind": "Task",
        "metadata": {"name": "new"},
        "spec": {"source": {"url": "https://origin.example/f"}, "target": {"nodeSelector": {"disk": "ssd"}}},
    }
    file = tmp_path / "task.yaml"
    file.write_text(yaml.safe_dump(body))
    shown = plugin("plan", "-f", str(file))
    assert "Task default/new would be created. The API server accepts it" in shown
    assert "2 nodes: node-a, node-b" in shown
    assert "1Mi for each node, 2Mi for all, from the Task default/old" in shown
    assert "does not exist" in plugin("get", "task", "new", code=1)
    body["spec"]["path"] = "default/models/m"  # type: ignore[index]
    assert "belongs to the Task default/old" in plugin("plan", "-f", "-", text=yaml.safe_dump(body), code=1)
    body["spec"]["priority"] = "high"  # type: ignore[index]
    refused = plugin("plan", "-f", "-", text=yaml.safe_dump(body), code=1)
    assert (1, True) == (refused.count("\n"), "spec.priority" in refused)


def test_plan_asks_the_operator_for_the_bytes_of_images(plugin: Plugin) -> None:
    """The test answers in the operator's place. The temporary ImagePrefetch is deleted."""
    spec = {"images": [{"image": "nginx:1.29"}], "schedule": {"cron": "0 3 * * *"}}
    body = {"apiVersion": API, "kind": "ImagePrefetch", "metadata": {"name": "web"}, "spec": spec}
    plan = {
        "bytes": 2 << 20,
        "registryBytes": 1 << 20,
        "nodes": [{"node": "node-a", "images": 1, "bytes": 1 << 20, "diskFree": 3 << 30, "diskFreeAfter": 2 << 30}],
        "leftOut": [{"node": "node-b", "image": "nginx:1.29", "reason": "NoSpace", "message": "1Mi is missing"}],
    }
    asked: list[dict[str, Any]] = []

    def answer() -> None:
        found = eventually_blocking(lambda: plugin.list("imageprefetches"), within=20)
        asked.extend(found)
        ready = condition("Ready", "False", "Planned", "m")
        plugin.status("imageprefetches", found[0]["metadata"]["name"], {"conditions": [ready], "plan": plan})

    operator = threading.Thread(target=answer)
    operator.start()
    shown = plugin("plan", "-f", "-", "--exact", text=yaml.safe_dump(body))
    operator.join()
    assert ("Plan", None) == (asked[0]["spec"]["mode"], asked[0]["spec"].get("schedule"))
    assert ["node-a", "1", "1Mi", "3Gi", "2Gi"] in [line.split() for line in shown.splitlines()]
    assert "node-b: nginx:1.29: NoSpace: 1Mi is missing" in shown
    assert "2Mi for all nodes, 1Mi from the registry" in shown
    assert [] == plugin.list("imageprefetches")


def test_drain_marks_the_peer(plugin: Plugin) -> None:
    shown = plugin("drain", "node-c")
    assert "peer node-c is drained" in shown
    assert plugin.read("peers.pantala.dev", "node-c")["spec"]["unschedulable"]
    plugin("drain", "node-c", "--undo")
    assert not plugin.read("peers.pantala.dev", "node-c")["spec"].get("unschedulable", False)


def test_a_user_without_rights_gets_code_4(plugin: Plugin, tmp_path: Path) -> None:
    plugin.control_plane.kubectl("create", "serviceaccount", "reader", check=False)
    token = plugin.control_plane.kubectl("create", "token", "reader").strip()
    config = yaml.safe_load(plugin.control_plane.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": token}
    file = tmp_path / "reader.kubeconfig"
    file.write_text(yaml.safe_dump(config))
    shown = plugin("get", "tasks", "--kubeconfig", str(file), code=4)
    assert (1, True) == (shown.count("\n"), "Ask the cluster's administrator" in shown)


def test_doctor_on_a_cluster_without_the_chart(plugin: Plugin) -> None:
    shown = plugin("doctor", code=1)
    assert "plain Kubernetes on 3 nodes" in shown
    assert "next: Install Pantala's chart" in shown


def test_as_a_plugin_of_kubectl(plugin: Plugin, tmp_path: Path) -> None:
    """A real kubectl finds the program and its completion, and gives its completion our words."""
    plugin.apply("Task", "one", {"source": {"url": "https://origin.example/f"}})
    for name, function in (
        ("kubectl-pantala", "__main__ import main"),
        ("kubectl_complete-pantala", "app import complete as main"),
    ):
        program = tmp_path / name
        program.write_text(f"#!{sys.executable}\nfrom pantala_cli.{function}\nmain()\n")
        program.chmod(0o755)
    environment = plugin.environment | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}

    def kubectl(*arguments: str) -> str:
        program = str(assets(["kubectl"])["kubectl"])
        return subprocess.run(
            [program, *arguments], env=environment, capture_output=True, text=True, check=True, timeout=60
        ).stdout

    assert ["one"] == [line.split()[0] for line in kubectl("pantala", "get", "tasks").splitlines()[1:]]
    assert kubectl("pantala", "version", "--client").startswith("kubectl-pantala ")
    completed = kubectl("__complete", "pantala", "get", "tasks", "")
    assert "one" in completed.splitlines()
    eventually_blocking(lambda: "explain" in kubectl("__complete", "pantala", "ex"), within=10)
