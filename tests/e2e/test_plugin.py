"""``kubectl pantala`` on a real cluster: through a real ``kubectl port-forward``, and with all checks of ``doctor``."""

import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.cluster import Cluster
from testbed.origin import Generated, Origin
from tests.e2e.case import MIB, Case
from tests.e2e.environment import NAMESPACE
from tests.support.eventually import eventually_blocking

_SIZE = 256 * MIB


def start(case: Case, *arguments: str, namespace: str = "", output: int = subprocess.PIPE) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-u", "-m", "pantala_cli", *arguments, f"--namespace={namespace or case.namespace}"],
        stdout=output, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"KUBECONFIG": str(case.environment.kubeconfig)},
    )  # fmt: skip


def run(case: Case, *arguments: str, namespace: str = "", code: int = 0) -> str:
    with start(case, *arguments, namespace=namespace) as process:
        out, errors = process.communicate(timeout=120)
    assert code == process.returncode, out + errors
    return out + errors


def forwards() -> list[str]:
    """The processes that forward a port now."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if b"port-forward\0--address=127.0.0.1" in path.read_bytes():
                found.append(path.parent.name)
        except OSError:
            continue
    return found


_RATES = ("origin_rate", "supernode_rate", "peers_rate")


def samples(record: Path) -> list[tuple[float, ...]]:
    """The time of each sample, and the rates from the origin, the supernode and peers. The last line may be cut."""
    consoles = [json.loads(line)["console"] for line in record.read_text().splitlines()]
    return [(each["at"], *(each["traffic"][name] for name in _RATES)) for each in consoles]


def moved(record: Path) -> list[float]:
    """The bytes that the rates add up to. A busy machine takes some samples late."""
    taken = samples(record)
    seconds = [after[0] - before[0] for before, after in itertools.pairwise(taken)]
    columns = list(zip(*taken[1:], strict=True))[1:]
    return [sum(rate * each for rate, each in zip(column, seconds, strict=True)) for column in columns]


@pytest.fixture
def shaped(cluster: Cluster) -> Iterator[None]:
    for node in cluster.nodes:
        cluster.shape(node, "200mbit")
    yield
    for node in cluster.nodes:
        cluster.shape(node, "")


@pytest.mark.usefixtures("shaped")
def test_the_rates_of_top_add_up_on_shaped_links(case: Case, origin: Origin, tmp_path: Path) -> None:
    origin.serve("/plugin", Generated(_SIZE, seed=41))
    record = tmp_path / "samples"
    with record.open("w") as file, start(case, "top", "-o", "json", "--interval", "1", output=file.fileno()) as top:
        eventually_blocking(lambda: record.stat().st_size > 0, within=20)
        case.apply(case.task("plugin", origin.url("/plugin")))
        eventually_blocking(lambda: f"{case.namespace}/plugin" in run(case, "top", "--once"))
        explained = run(case, "explain", "task/plugin")
        assert f"Task {case.namespace}/plugin: not ready" in explained
        case.ready("task/plugin", timeout=120)
        eventually_blocking(lambda: not any(samples(record)[-1][1:]), ignoring=ValueError)
        top.send_signal(signal.SIGINT)
        assert 130 == top.wait(20)
    from_origin, *to_nodes = moved(record)
    assert sum(to_nodes) == pytest.approx(len(case.nodes) * _SIZE, rel=0.05), samples(record)
    assert from_origin == pytest.approx(_SIZE, rel=0.05), samples(record)
    assert [] == forwards(), "each command ends its kubectl"


def test_doctor_finds_nothing_wrong_and_a_file_goes_round(case: Case, origin: Origin) -> None:
    origin.serve("/round", Generated(MIB, seed=42))
    findings = json.loads(run(case, "doctor", "-o", "json", "--round-trip", origin.url("/round")))
    assert [] == [each for each in findings if each["level"] == "failed"]
    checks = {each["check"] for each in findings if each["level"] == "ok"}
    expected = {"distribution", "CRDs", "pods", "versions", "runtime", "peers", "mirror", "clocks", "volumes"}
    assert expected | {"Pod Security", "policies", "ports", "round trip"} <= checks, findings
    assert [] == case.kubectl.list("tasks.pantala.dev", case.namespace)


def test_the_other_commands(case: Case, origin: Origin, tmp_path: Path) -> None:
    """logs, version, ui, fetch and drain, each with the real parts."""
    origin.serve("/other", Generated(MIB, seed=43))
    created = run(case, "fetch", origin.url("/other"), "--name", "other", "--wait")
    assert "task.pantala.dev/other ready" in created
    assert "operator 0." in run(case, "version")
    node = case.nodes[0]
    log = run(case, "logs", "peer", "--node", node, "--tail", "5", namespace=NAMESPACE)
    assert log.count("\n") >= 1
    assert "is drained" in run(case, "drain", node)
    try:
        file = tmp_path / "later.json"
        file.write_text(json.dumps(case.task("later", origin.url("/other"))))
        assert f"{node}: its peer is drained" in run(case, "plan", "-f", str(file))
    finally:
        run(case, "drain", node, "--undo")
    with start(case, "ui", "--no-browser") as ui:
        assert ui.stdout is not None
        assert "Pantala's console is at http://127.0.0.1:" in ui.stdout.readline()
        ui.send_signal(signal.SIGINT)
        assert 130 == ui.wait(20)
    assert [] == forwards()
