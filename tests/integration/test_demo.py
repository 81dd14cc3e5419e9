"""``python -m demo``, as a user runs it."""

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from demo.payload import Payload
from demo.story import NodeResult, Result, faults, sample
from pantala_protocol.console.views import Console
from tests.support.eventually import eventually_blocking
from tests.support.small_disk import small_disk

pytestmark = pytest.mark.alone

ROOT = Path(__file__).resolve().parents[2]
PAYLOAD = Payload(Path("file"), 10, "a" * 64)


def start(folder: Path, *arguments: str, kubeconfig: str = "") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "demo", *arguments],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(folder), "COLUMNS": "120", "KUBECONFIG": kubeconfig},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def processes_below(folder: Path) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(folder) in path.read_text():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A demo that keeps running, and its output until then."""
    demo = start(tmp_path, "--keep")
    output = ""
    assert demo.stdout is not None
    for line in demo.stdout:
        output += line
        if "until Ctrl-C" in line:
            break
    yield demo, output
    if demo.poll() is None:
        demo.kill()
    demo.communicate()


@pytest.mark.controlplane
@pytest.mark.timeout(180)
def test_the_demo_shares_a_file_and_leaves_nothing(kept: tuple[subprocess.Popen[str], str], tmp_path: Path) -> None:
    """Three nodes have the right file, the origin sent it once, and kubectl works. Ctrl-C ends the demo."""
    demo, output = kept
    assert 3 == len(re.findall(r"^node-\d .* ok .* \S+ MB +\S+ MB *$", output, re.MULTILINE)), output
    assert re.search(r"left the origin .* 1\.000x", output), output
    export = re.search(r"export (KUBECONFIG=\S+ PATH=\S+)", output)
    assert export, output
    answer = subprocess.run(
        ["/bin/sh", "-c", f"export {export[1]}; kubectl pantala status"], env={},
        capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert re.search(r"demo +True +Distributed +100% +3/3 +\S+ +1\.00x", answer.stdout), answer
    console = re.search(r"open (http://127\.0\.0\.1:\d+)", output)
    assert console, output
    with urllib.request.urlopen(f"{console[1]}/api/v1/console", timeout=10) as found:
        view = msgspec.json.decode(found.read(), type=Console)
    assert [("demo", 1.0, 3)] == [(each.name, each.progress, each.nodes.ready) for each in view.tasks]
    assert view.saved == 2 * view.traffic.origin > 0
    began = time.monotonic()
    stop = re.search(r"until Ctrl-C here, or kill (\d+)", output)
    assert stop, output
    os.kill(int(stop[1]), signal.SIGTERM)
    assert 0 == demo.wait(20)
    assert time.monotonic() - began < 5
    assert ([], []) == (processes_below(tmp_path), list(tmp_path.iterdir()))


@pytest.mark.controlplane
@pytest.mark.timeout(120)
def test_an_interrupted_demo_leaves_nothing(tmp_path: Path) -> None:
    """Ctrl-C during the start: the demo ends within 5 s, and no process and no file is left."""
    demo = start(tmp_path)
    assert demo.stdout is not None
    eventually_blocking(lambda: processes_below(tmp_path) or demo.poll() is not None, within=60)
    assert demo.poll() is None, demo.stdout.read()
    began = time.monotonic()
    demo.send_signal(signal.SIGTERM)
    output, _ = demo.communicate(timeout=30)
    assert time.monotonic() - began < 5
    assert (130, [], []) == (demo.returncode, processes_below(tmp_path), list(tmp_path.iterdir())), output


def test_a_demo_without_room_shows_what_etcd_says(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 24 << 20) as disk:
        demo = start(disk)
        output, _ = demo.communicate(timeout=60)
    assert 1 == demo.returncode
    assert "The demo failed: etcd ended with" in output
    assert "no space left on device" in output
    assert "MiB are free below" in output


def test_a_demo_without_a_cluster_shows_only_the_error(tmp_path: Path) -> None:
    (tmp_path / "kubeconfig").write_text("apiVersion: v1\nkind: Config\n")
    demo = start(tmp_path, "--cluster", kubeconfig=str(tmp_path / "kubeconfig"))
    output, _ = demo.communicate(timeout=60)
    assert 1 == demo.returncode
    assert "The demo failed: kubectl get failed: The connection to the server localhost:8080 was refused" in output
    assert "Check with kubectl get peers" in output
    assert "memcache" not in output


def result(**changes: object) -> Result:
    nodes = tuple(NodeResult(f"node-{n}", Path("x"), 10, "a" * 64, None) for n in (1, 2, 3))
    status = {"digest": "sha256:" + "a" * 64, "peers": {"ready": 3, "desired": 3}}
    parts = {"nodes": nodes, "origin_bytes": 10, **changes}
    return Result(task={"status": status}, seconds=1.0, origin_requests=1, **parts)  # type: ignore[arg-type]


def test_a_right_result_passes() -> None:
    assert [] == faults(result(), PAYLOAD, 3)


@pytest.mark.parametrize(
    ("wrong", "finding"),
    [
        (result(origin_bytes=20), "the origin sent 20 bytes instead of 10"),
        (result(nodes=result().nodes[:2]), "2 nodes have the file instead of 3"),
        (
            result(nodes=(*result().nodes[:2], NodeResult("node-3", Path("x"), 10, "b" * 64, None))),
            "node-3 has other content",
        ),
    ],
)
def test_a_wrong_result_is_reported(wrong: Result, finding: str) -> None:
    assert [finding] == faults(wrong, PAYLOAD, 3)


def test_only_the_name_and_the_source_of_the_sample_change() -> None:
    task = sample("http://127.0.0.1/file", PAYLOAD, "demo")
    assert ("demo", "default") == (task["metadata"]["name"], task["metadata"]["namespace"])
    assert {"source": {"url": "http://127.0.0.1/file"}, "digest": f"sha256:{'a' * 64}"} == task["spec"]
