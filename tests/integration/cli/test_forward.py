"""The console is reached through ``kubectl port-forward``, which always ends with the command."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pantala_cli.access.console import port_of
from pantala_cli.access.forward import forwarded
from tests.support.cli import Command, FakeAPIServer, FakeConsole, refusal
from tests.support.eventually import eventually_blocking

FORWARD = """\
#!/bin/sh
echo "$$ $*" >> {record}
{action}
"""


class ForwardingKubectl:
    """A program ``kubectl`` that behaves as a test chooses. It records its process and its arguments."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._record = folder / "record"
        self._record.touch()

    def does(self, action: str) -> None:
        program = self.folder / "kubectl"
        program.write_text(FORWARD.format(record=self._record, action=action))
        program.chmod(0o755)

    def forwards(self, console: FakeConsole) -> None:
        port = console.url.rpartition(":")[2]
        self.does(f'echo "Forwarding from 127.0.0.1:{port} -> 8090"; exec sleep 60')

    @property
    def runs(self) -> list[tuple[int, str]]:
        """Each run: the process and its arguments."""
        lines = [line.partition(" ") for line in self._record.read_text().splitlines()]
        return [(int(pid), arguments) for pid, _, arguments in lines]

    def alive(self) -> list[int]:
        return [pid for pid, _ in self.runs if Path(f"/proc/{pid}").exists()]


@pytest.fixture
def kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ForwardingKubectl:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return ForwardingKubectl(folder)


def operator(name: str, *arguments: str, phase: str = "Running") -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "pantala", "labels": {"app.kubernetes.io/version": "0.1.0"}},
        "spec": {"containers": [{"name": "operator", "args": list(arguments)}]},
        "status": {"phase": phase, "conditions": [{"type": "Ready", "status": "True"}]},
    }


def has_pods(api: FakeAPIServer, *pods: dict[str, Any]) -> None:
    api.answers["GET", "/api/v1/pods"] = (200, {"items": list(pods)})


def test_the_console_is_reached_and_kubectl_ends(
    command: Command, api: FakeAPIServer, console: FakeConsole, kubectl: ForwardingKubectl
) -> None:
    kubectl.forwards(console)
    has_pods(api, operator("operator-0"))
    code, out, err = command("top", "--once", "--context", "c")
    assert (0, "", True) == (code, err, "default/model" in out)
    ((_, arguments),) = kubectl.runs
    assert "--context=c port-forward --address=127.0.0.1 --namespace=pantala pod/operator-0 :8090" == arguments
    assert [] == kubectl.alive()


def test_the_leader_is_asked(
    command: Command, api: FakeAPIServer, console: FakeConsole, kubectl: ForwardingKubectl
) -> None:
    kubectl.forwards(console)
    console.console = msgspec.structs.replace(console.console, leads=False, leader="operator-1")
    has_pods(api, operator("operator-0"), operator("operator-1", "--console-listen=127.0.0.1:9000"))
    assert 0 == command("top", "--once")[0]
    assert ["pod/operator-0 :8090", "pod/operator-1 :9000"] == [
        arguments.partition("--namespace=pantala ")[2] for _, arguments in kubectl.runs
    ]
    assert [] == kubectl.alive()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_kubectl_ends_with_a_signal(
    command: Command, api: FakeAPIServer, console: FakeConsole, kubectl: ForwardingKubectl, number: signal.Signals
) -> None:
    kubectl.forwards(console)
    has_pods(api, operator("operator-0"))
    program = subprocess.Popen(
        [sys.executable, "-m", "pantala_cli", "top", "--interval", "0.2"],
        env=os.environ | {"KUBECONFIG": str(command.file)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert program.stdout is not None
    assert program.stdout.readline().startswith("origin")
    assert 1 == len(kubectl.alive())
    program.send_signal(number)
    _, errors = program.communicate(timeout=10)
    assert (130, "") == (program.returncode, errors)
    eventually_blocking(lambda: kubectl.alive() == [], within=5)


def test_a_signal_while_kubectl_starts_leaves_none_behind(
    kubectl: ForwardingKubectl, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new process runs already, and the call that starts it has not returned."""
    kubectl.does("exec sleep 60")

    class Interrupted(subprocess.Popen[bytes]):
        def __init__(self, *arguments: Any, **more: Any) -> None:
            super().__init__(*arguments, **more)
            eventually_blocking(lambda: kubectl.runs, within=10)
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    with pytest.raises(KeyboardInterrupt), forwarded([], "pantala", "operator-0", 8090):
        pass
    assert ([], 1) == (kubectl.alive(), len(kubectl.runs))


def test_kubectl_does_not_stop_at_a_full_pipe(console: FakeConsole, kubectl: ForwardingKubectl) -> None:
    """It writes a line for each connection that a browser opens."""
    port, written = console.url.rpartition(":")[2], kubectl.folder / "written"
    lines = "head -c 1000000 /dev/zero; head -c 1000000 /dev/zero >&2"
    kubectl.does(f'echo "Forwarding from 127.0.0.1:{port} -> 8090"; {lines}; touch {written}; exec sleep 60')
    with forwarded([], "pantala", "operator-0", 8090) as local:
        assert port == str(local)
        eventually_blocking(written.exists, within=5)
    assert [] == kubectl.alive()


def test_ui_prints_the_address_until_ctrl_c(
    command: Command, api: FakeAPIServer, console: FakeConsole, kubectl: ForwardingKubectl
) -> None:
    kubectl.forwards(console)
    has_pods(api, operator("operator-0"))
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "pantala_cli", "ui", "--no-browser"],
        env=os.environ | {"KUBECONFIG": str(command.file)}, stdout=subprocess.PIPE, text=True,
    ) as program:  # fmt: skip
        assert program.stdout is not None
        assert f"Pantala's console is at {console.url}/ until Ctrl-C.\n" == program.stdout.readline()
        program.send_signal(signal.SIGINT)
        assert 130 == program.wait(10)
    assert [] == kubectl.alive()


@pytest.mark.parametrize(
    ("action", "code", "expected"),
    [
        ('echo "error: pods \\"x\\" is forbidden: no pods/portforward" >&2; exit 1', 4, "create on pods/portforward"),
        ('echo "error: lost connection" >&2; exit 1', 3, "lost connection"),
        ("exit 1", 3, "it ended without a message"),
    ],
)
def test_a_failed_forward_is_one_line(
    command: Command, api: FakeAPIServer, kubectl: ForwardingKubectl, action: str, code: int, expected: str
) -> None:
    kubectl.does(action)
    has_pods(api, operator("operator-0"))
    ended, _, err = command("top", "--once")
    assert (code, 1, True) == (ended, err.count("\n"), expected in err)


def test_no_operator_is_one_line(command: Command, api: FakeAPIServer) -> None:
    has_pods(api, operator("operator-0", phase="Pending"))
    code, _, err = command("top", "--once")
    assert (3, True) == (code, "No pod of Pantala's operator runs in this cluster" in err)
    api.answers["GET", "/api/v1/pods"] = (403, {"kind": "Status", "message": "pods is forbidden", "code": 403})
    code, _, err = command("top", "--once")
    assert (4, True) == (code, "--pantala-namespace" in err)


def test_a_pod_of_another_namespace_does_not_pass_as_the_operator(
    command: Command, api: FakeAPIServer, console: FakeConsole, kubectl: ForwardingKubectl
) -> None:
    kubectl.forwards(console)
    other = operator("a")
    other["metadata"]["namespace"] = "team"
    has_pods(api, operator("operator-0"), other)
    code, _, err = command("top", "--once")
    assert (1, True) == (code, "in the namespaces pantala, team. A cluster can have only one release. Name its" in err)
    assert [] == kubectl.runs
    api.answers["GET", "/api/v1/namespaces/pantala/pods"] = (200, {"items": [operator("operator-0")]})
    assert 0 == command("top", "--once", "--pantala-namespace", "pantala")[0]


def test_the_port_is_read_from_the_operators_flag() -> None:
    assert (8090, 9000, 9001) == (
        port_of(operator("x")),
        port_of(operator("x", "--console-listen=127.0.0.1:9000")),
        port_of(operator("x", "--console-listen=[::1]:9001")),
    )


def test_logs_run_kubectl_for_the_pods_of_a_process(
    command: Command, api: FakeAPIServer, kubectl: ForwardingKubectl
) -> None:
    kubectl.does("exit 0")
    pods = [operator("peer-a"), operator("peer-b")]
    pods[0]["spec"]["nodeName"] = "node-a"
    has_pods(api, *pods)
    assert 0 == command("logs", "peer", "--node", "node-a", "-f", "--since", "5m")[0]
    assert "logs --namespace=pantala pod/peer-a --tail=100 --container=peer --follow --since=5m" == kubectl.runs[-1][1]
    assert 0 == command("logs", "runtime")[0]
    assert "--selector=app.kubernetes.io/part-of=pantala,app.kubernetes.io/component=peer" in kubectl.runs[-1][1]
    api.answers["GET", "/api/v1/namespaces/pantala/pods"] = (200, {"items": pods})
    assert 0 == command("logs", "peer", "-n", "pantala")[0]
    assert 1 == command("logs", "peer", "--node", "node-z")[0]
    kubectl.does("exit 3")
    assert 1 == command("logs", "operator")[0]


def test_a_pod_of_another_namespace_shows_no_log(
    command: Command, api: FakeAPIServer, kubectl: ForwardingKubectl
) -> None:
    kubectl.does("exit 0")
    other = operator("a")
    other["metadata"]["namespace"] = "a-team"
    has_pods(api, other, operator("peer-a"))
    code, _, err = command("logs", "peer")
    assert (1, True, []) == (code, "in the namespaces a-team, pantala. A cluster can" in err, kubectl.runs)
    api.answers["GET", "/api/v1/namespaces/pantala/pods"] = (200, {"items": [operator("peer-a")]})
    assert 0 == command("logs", "peer", "-n", "pantala")[0]


def test_doctor_reads_the_volumes_from_the_console(
    command: Command, api: FakeAPIServer, console: FakeConsole, kubectl: ForwardingKubectl
) -> None:
    kubectl.forwards(console)
    has_pods(api, operator("operator-0"))
    findings = json.loads(command("doctor", "-o", "json")[1])
    assert ["supernode-0: 50Gi of 100Gi free"] == [each["message"] for each in findings if each["check"] == "volumes"]


def test_drain_waits_until_no_node_reads(
    command: Command, api: FakeAPIServer, console: FakeConsole, monkeypatch: pytest.MonkeyPatch
) -> None:
    quiet = msgspec.structs.replace(console.console, edges=())
    monkeypatch.setattr(time, "sleep", lambda _: setattr(console, "console", quiet))
    api.answers["PATCH", "/apis/pantala.dev/v1alpha1/peers/node-a"] = (200, {"metadata": {"name": "node-a"}})
    code, out, err = command("drain", "node-a", "--console", console.url)
    assert (0, True, "1 upload of node-a still run\n") == (code, "is drained" in out, err)
    assert {"spec": {"unschedulable": True}} == api.asked[-1][3]
    api.answers["PATCH", "/apis/pantala.dev/v1alpha1/peers/node-z"] = refusal(404, "not found")
    code, _, err = command("drain", "node-z")
    assert (1, True) == (code, "No peer runs on node node-z" in err)
    assert 0 == command("drain", "node-a", "--undo")[0]
    assert {"spec": {"unschedulable": False}} == api.asked[-1][3]


@pytest.mark.parametrize(
    ("words", "first"),
    [(("top", "--interval", "0.2", "-o", "json"), '"leads":true'), (("ui", "--no-browser"), "console is at http")],
    ids=["top", "ui"],
)
def test_a_command_connects_again_when_the_operator_restarts(
    command: Command,
    api: FakeAPIServer,
    console: FakeConsole,
    kubectl: ForwardingKubectl,
    words: tuple[str, ...],
    first: str,
) -> None:
    kubectl.forwards(console)
    has_pods(api, operator("operator-0"))
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "pantala_cli", *words],
        env=os.environ | {"KUBECONFIG": str(command.file)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as program:  # fmt: skip
        assert program.stdout is not None
        assert program.stderr is not None
        assert first in program.stdout.readline()
        console.broken = True
        assert "Connecting again" in program.stderr.readline()
        console.broken = False
        eventually_blocking(lambda: len(kubectl.runs) > 1, within=30)  # on a busy machine, one more may fail first
        program.send_signal(signal.SIGINT)
        assert 130 == program.wait(10)
    assert [] == kubectl.alive()


def test_doctor_and_version_show_no_facts_from_the_labels_of_another_namespace(
    command: Command, api: FakeAPIServer
) -> None:
    other = operator("operator-0")
    other["metadata"] |= {"namespace": "a-team", "labels": {"app.kubernetes.io/version": "6.6.6"}}
    has_pods(api, other, operator("operator-0"))
    warning = "in the namespaces a-team, pantala. A cluster can have only one release. Name its namespace"
    code, out, err = command("version")
    assert (0, False, True) == (code, "6.6.6" in out, warning in err)
    code, out, err = command("doctor")
    assert (1, "", True) == (code, out, warning in err)
    api.answers["GET", "/api/v1/namespaces/pantala/pods"] = (200, {"items": [operator("operator-0")]})
    assert "operator 0.1.0" in command("version", "--pantala-namespace", "pantala")[1]
