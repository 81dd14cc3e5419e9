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


class ForwardLab:
    """The command, a fake API server, a fake console and a program ``kubectl``."""

    def __init__(self, command: Command, api: FakeAPIServer, console: FakeConsole, folder: Path) -> None:
        self.command = command
        self.api = api
        self.console = console
        self.kubectl = ForwardingKubectl(folder)

    def has(self, *pods: dict[str, Any]) -> None:
        self.api.answers["GET", "/api/v1/pods"] = (200, {"items": list(pods)})

    def has_in_pantala(self, *pods: dict[str, Any]) -> None:
        self.api.answers["GET", "/api/v1/namespaces/pantala/pods"] = (200, {"items": list(pods)})

    def forwards(self, *pods: dict[str, Any]) -> None:
        """``kubectl`` reaches the console. ``pods``: the operator's, or one."""
        self.kubectl.forwards(self.console)
        self.has(*(pods or (operator("operator-0"),)))

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Run the program as a process of its own."""
        return subprocess.Popen(
            [sys.executable, "-u", "-m", "pantala_cli", *words],
            env=os.environ | {"KUBECONFIG": str(self.command.file)},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip


@pytest.fixture
def it(
    command: Command, api: FakeAPIServer, console: FakeConsole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> ForwardLab:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return ForwardLab(command, api, console, folder)


def operator(name: str, *arguments: str, phase: str = "Running") -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "pantala", "labels": {"app.kubernetes.io/version": "0.1.0"}},
        "spec": {"containers": [{"name": "operator", "args": list(arguments)}]},
        "status": {"phase": phase, "conditions": [{"type": "Ready", "status": "True"}]},
    }


def test_the_console_is_reached_and_kubectl_ends(it: ForwardLab) -> None:
    it.forwards()
    code, out, err = it.command("top", "--once", "--context", "c")
    assert (0, "", True) == (code, err, "default/model" in out)
    ((_, arguments),) = it.kubectl.runs
    assert "--context=c port-forward --address=127.0.0.1 --namespace=pantala pod/operator-0 :8090" == arguments
    assert [] == it.kubectl.alive()


def test_the_leader_is_asked(it: ForwardLab) -> None:
    it.forwards(operator("operator-0"), operator("operator-1", "--console-listen=127.0.0.1:9000"))
    it.console.console = msgspec.structs.replace(it.console.console, leads=False, leader="operator-1")
    assert 0 == it.command("top", "--once")[0]
    assert ["pod/operator-0 :8090", "pod/operator-1 :9000"] == [
        arguments.partition("--namespace=pantala ")[2] for _, arguments in it.kubectl.runs
    ]
    assert [] == it.kubectl.alive()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_kubectl_ends_with_a_signal(it: ForwardLab, number: signal.Signals) -> None:
    it.forwards()
    program = it.start("top", "--interval", "0.2")
    assert program.stdout is not None
    assert program.stdout.readline().startswith("origin")
    assert 1 == len(it.kubectl.alive())
    program.send_signal(number)
    _, errors = program.communicate(timeout=10)
    assert (130, "") == (program.returncode, errors)
    eventually_blocking(lambda: it.kubectl.alive() == [], within=5)


def test_a_signal_while_kubectl_starts_leaves_none_behind(it: ForwardLab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new process runs already, and the call that starts it has not returned."""
    it.kubectl.does("exec sleep 60")

    class Interrupted(subprocess.Popen[bytes]):
        def __init__(self, *arguments: Any, **more: Any) -> None:
            super().__init__(*arguments, **more)
            eventually_blocking(lambda: it.kubectl.runs, within=10)
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    with pytest.raises(KeyboardInterrupt), forwarded([], "pantala", "operator-0", 8090):
        pass
    assert ([], 1) == (it.kubectl.alive(), len(it.kubectl.runs))


def test_kubectl_does_not_stop_at_a_full_pipe(it: ForwardLab) -> None:
    """It writes a line for each connection that a browser opens."""
    port, written = it.console.url.rpartition(":")[2], it.kubectl.folder / "written"
    lines = "head -c 1000000 /dev/zero; head -c 1000000 /dev/zero >&2"
    it.kubectl.does(f'echo "Forwarding from 127.0.0.1:{port} -> 8090"; {lines}; touch {written}; exec sleep 60')
    with forwarded([], "pantala", "operator-0", 8090) as local:
        assert port == str(local)
        eventually_blocking(written.exists, within=5)
    assert [] == it.kubectl.alive()


def test_ui_prints_the_address_until_ctrl_c(it: ForwardLab) -> None:
    it.forwards()
    with it.start("ui", "--no-browser") as program:
        assert program.stdout is not None
        assert f"Pantala's console is at {it.console.url}/ until Ctrl-C.\n" == program.stdout.readline()
        program.send_signal(signal.SIGINT)
        assert 130 == program.wait(10)
    assert [] == it.kubectl.alive()


@pytest.mark.parametrize(
    ("action", "code", "expected"),
    [
        ('echo "error: pods \\"x\\" is forbidden: no pods/portforward" >&2; exit 1', 4, "create on pods/portforward"),
        ('echo "error: lost connection" >&2; exit 1', 3, "lost connection"),
        ("exit 1", 3, "it ended without a message"),
    ],
)
def test_a_failed_forward_is_one_line(it: ForwardLab, action: str, code: int, expected: str) -> None:
    it.kubectl.does(action)
    it.has(operator("operator-0"))
    ended, _, err = it.command("top", "--once")
    assert (code, 1, True) == (ended, err.count("\n"), expected in err)


def test_no_operator_is_one_line(it: ForwardLab) -> None:
    it.has(operator("operator-0", phase="Pending"))
    code, _, err = it.command("top", "--once")
    assert (3, True) == (code, "No pod of Pantala's operator runs in this cluster" in err)
    it.api.answers["GET", "/api/v1/pods"] = (403, {"kind": "Status", "message": "pods is forbidden", "code": 403})
    code, _, err = it.command("top", "--once")
    assert (4, True) == (code, "--pantala-namespace" in err)


def test_a_pod_of_another_namespace_does_not_pass_as_the_operator(it: ForwardLab) -> None:
    other = operator("a")
    other["metadata"]["namespace"] = "team"
    it.forwards(operator("operator-0"), other)
    code, _, err = it.command("top", "--once")
    assert (1, True) == (code, "in the namespaces pantala, team. A cluster should have only one release" in err)
    assert [] == it.kubectl.runs
    it.has_in_pantala(operator("operator-0"))
    assert 0 == it.command("top", "--once", "--pantala-namespace", "pantala")[0]


def test_the_port_is_read_from_the_operators_flag() -> None:
    assert (8090, 9000, 9001) == (
        port_of(operator("x")),
        port_of(operator("x", "--console-listen=127.0.0.1:9000")),
        port_of(operator("x", "--console-listen=[::1]:9001")),
    )


def test_logs_run_kubectl_for_the_pods_of_a_process(it: ForwardLab) -> None:
    it.kubectl.does("exit 0")
    pods = [operator("peer-a"), operator("peer-b")]
    pods[0]["spec"]["nodeName"] = "node-a"
    it.has(*pods)
    assert 0 == it.command("logs", "peer", "--node", "node-a", "-f", "--since", "5m")[0]
    assert (
        "logs --namespace=pantala pod/peer-a --tail=100 --container=peer --follow --since=5m" == it.kubectl.runs[-1][1]
    )
    assert 0 == it.command("logs", "runtime")[0]
    assert "--selector=app.kubernetes.io/part-of=pantala,app.kubernetes.io/component=peer" in it.kubectl.runs[-1][1]
    it.has_in_pantala(*pods)
    assert 0 == it.command("logs", "peer", "-n", "pantala")[0]
    assert 1 == it.command("logs", "peer", "--node", "node-z")[0]
    it.kubectl.does("exit 3")
    assert 1 == it.command("logs", "operator")[0]


def test_a_pod_of_another_namespace_shows_no_log(it: ForwardLab) -> None:
    it.kubectl.does("exit 0")
    other = operator("a")
    other["metadata"]["namespace"] = "a-team"
    it.has(other, operator("peer-a"))
    code, _, err = it.command("logs", "peer")
    assert (1, True, []) == (code, "in the namespaces a-team, pantala. A cluster should" in err, it.kubectl.runs)
    it.has_in_pantala(operator("peer-a"))
    assert 0 == it.command("logs", "peer", "-n", "pantala")[0]


def test_doctor_reads_the_volumes_from_the_console(it: ForwardLab) -> None:
    it.forwards()
    findings = json.loads(it.command("doctor", "-o", "json")[1])
    assert ["supernode-0: 50Gi of 100Gi free"] == [each["message"] for each in findings if each["check"] == "volumes"]


def test_drain_waits_until_no_node_reads(it: ForwardLab, monkeypatch: pytest.MonkeyPatch) -> None:
    quiet = msgspec.structs.replace(it.console.console, edges=())
    monkeypatch.setattr(time, "sleep", lambda _: setattr(it.console, "console", quiet))
    it.api.answers["PATCH", "/apis/pantala.dev/v1alpha1/peers/node-a"] = (200, {"metadata": {"name": "node-a"}})
    code, out, err = it.command("drain", "node-a", "--console", it.console.url)
    assert (0, True, "1 upload of node-a still run\n") == (code, "is drained" in out, err)
    assert {"spec": {"unschedulable": True}} == it.api.asked[-1][3]
    it.api.answers["PATCH", "/apis/pantala.dev/v1alpha1/peers/node-z"] = refusal(404, "not found")
    code, _, err = it.command("drain", "node-z")
    assert (1, True) == (code, "No peer runs on node node-z" in err)
    assert 0 == it.command("drain", "node-a", "--undo")[0]
    assert {"spec": {"unschedulable": False}} == it.api.asked[-1][3]


@pytest.mark.parametrize(
    ("words", "first"),
    [(("top", "--interval", "0.2", "-o", "json"), '"leads":true'), (("ui", "--no-browser"), "console is at http")],
    ids=["top", "ui"],
)
def test_a_command_connects_again_when_the_operator_restarts(
    it: ForwardLab, words: tuple[str, ...], first: str
) -> None:
    it.forwards()
    with it.start(*words) as program:
        assert program.stdout is not None
        assert program.stderr is not None
        assert first in program.stdout.readline()
        it.console.broken = True
        assert "Connecting again" in program.stderr.readline()
        it.console.broken = False
        eventually_blocking(lambda: len(it.kubectl.runs) > 1, within=30)  # on a busy machine, one more may fail first
        program.send_signal(signal.SIGINT)
        assert 130 == program.wait(10)
    assert [] == it.kubectl.alive()


def test_doctor_and_version_show_no_facts_from_the_labels_of_another_namespace(it: ForwardLab) -> None:
    other = operator("operator-0")
    other["metadata"] |= {"namespace": "a-team", "labels": {"app.kubernetes.io/version": "6.6.6"}}
    it.has(other, operator("operator-0"))
    warning = "in the namespaces a-team, pantala. A cluster should have only one release. Name its namespace"
    code, out, err = it.command("version")
    assert (0, False, True) == (code, "6.6.6" in out, warning in err)
    code, out, err = it.command("doctor")
    assert (1, "", True) == (code, out, warning in err)
    it.has_in_pantala(operator("operator-0"))
    assert "operator 0.1.0" in it.command("version", "--pantala-namespace", "pantala")[1]
