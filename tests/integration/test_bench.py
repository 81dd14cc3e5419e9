"""Each scenario of the bench measures the real processes, in a size that takes seconds."""

import contextlib
import json
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from bench import loopback
from bench.catalog import SCENARIOS

pytestmark = pytest.mark.alone

SHORT = {
    "data": ("--size", "4", "--peers", "2"),
    "fast": ("--fast-size", "8", "--fast-peers", "2"),
    "origin": ("--origin-size", "32"),
    "control": ("--clients", "50", "--seconds", "1"),
    "small": ("--requests", "5"),
}
BENCH = (sys.executable, "-m", "bench")


def measured(scenario: str, folder: Path) -> list[dict[str, Any]]:
    """Measure one scenario once, and return its rows."""
    why = SCENARIOS[scenario].lacks()
    if why:
        pytest.skip(why)
    result = folder / "result.json"
    arguments = (scenario, "--runs", "1", "--calm", "0", "--json", str(result), *SHORT[scenario])
    done = subprocess.run([*BENCH, *arguments], capture_output=True, text=True, check=False, timeout=110)
    assert 0 == done.returncode, done.stderr
    rows: list[dict[str, Any]] = json.loads(result.read_text())["results"][0]["rows"]
    return rows


def namespaces() -> set[str]:
    folder = Path("/run/netns")
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def mounts() -> set[str]:
    """The folders that benches have mounted."""
    lines = Path("/proc/mounts").read_text().splitlines()
    return {line.split()[1] for line in lines if line.startswith("pantala-bench ")}


def commands() -> str:
    """The command lines of all processes."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # the process has just ended
            found.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return "\n".join(found)


def test_data_has_a_row_for_each_number_of_peers(tmp_path: Path) -> None:
    (row,) = measured("data", tmp_path)
    found = row["medians"]
    assert {"peers": 2} == row["case"]
    assert 1.0 < found["slowest"] < 8
    assert 1.0 < found["direct"] < 8
    assert 1.0 == pytest.approx(found["origin"], abs=0.01)
    assert 0.9 <= found["supernode_copies"] <= 2
    assert min(found["peer_cpu"], found["supernode_cpu"], found["exchanges"], found["peer_mebibytes"]) > 0


def test_fast_measures_peers_beside_direct_downloads(tmp_path: Path) -> None:
    rows = {(row["case"]["peers"], row["case"]["way"]): row["medians"] for row in measured("fast", tmp_path)}
    assert {(0, "take in"), *((2, way) for way in ("cold", "warm", "limit", "direct", "hashed"))} == set(rows)
    assert all(row["rate"] > 1 for row in rows.values())
    assert all(rows[2, way]["peer_mebibytes"] > 10 for way in ("cold", "warm"))
    assert all(0.9 <= rows[2, way]["supernode_copies"] <= 2 for way in ("cold", "warm"))


def test_origin_reads_each_byte_once(tmp_path: Path) -> None:
    rows = {(row["case"]["origin"], row["case"]["reader"]): row["medians"] for row in measured("origin", tmp_path)}
    assert 8 == len(rows)
    assert 1.0 == pytest.approx(rows["http", "supernode"]["counted"])
    assert 1.0 == pytest.approx(rows["https", "curl"]["sent"])


def test_control_counts_cycles_of_both_kinds_of_clients(tmp_path: Path) -> None:
    rows = {row["case"]["kind"]: row["medians"] for row in measured("control", tmp_path)}
    assert {"dfget", "native"} == set(rows)
    assert all(row["cycles"] > 10 and row["p50_ms"] <= row["p99_ms"] for row in rows.values())
    assert rows["dfget"]["registrations"] > 10


def test_small_reads_with_each_kind_of_reader(tmp_path: Path) -> None:
    rows = {(row["case"]["size"], row["case"]["reader"]): row["medians"] for row in measured("small", tmp_path)}
    readers = ("direct", "direct, kept", "dragonfly", "dragonfly, kept", "native", "peer")
    assert {(size, reader) for size in ("1 KiB", "1 MiB") for reader in readers} == set(rows)
    assert all(0 < row["p50_ms"] <= row["p99_ms"] for row in rows.values())


@pytest.mark.skipif(bool(SCENARIOS["data"].lacks()), reason="needs root, iproute2 and util-linux")
def test_an_interrupt_removes_everything(tmp_path: Path) -> None:
    """The interrupt comes while the peers download: the file alone takes ten seconds."""
    before, result = mounts(), tmp_path / "result.json"
    arguments = ("data", "--peers", "2", "--calm", "0", "--json", str(result))
    with subprocess.Popen([*BENCH, *arguments], stderr=subprocess.PIPE, text=True) as bench:
        name = f"pantala-bench-{bench.pid}"
        deadline = time.monotonic() + 60
        while f"{name}-peer-1" not in namespaces():
            assert bench.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        time.sleep(1)
        (folder,) = mounts() - before
        assert f"{folder}/run-" in commands()
        bench.send_signal(signal.SIGINT)
        _, shown = bench.communicate(timeout=60)
    assert 130 == bench.returncode, shown
    assert "interrupted" in shown
    assert set() == {each for each in namespaces() if each.startswith(name)}
    assert folder not in mounts()
    assert not Path(folder).exists()
    assert f"{folder}/run-" not in commands()
    assert not result.exists()


def test_without_nginx_fast_has_the_origin_of_the_testbed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loopback, "nginx_program", lambda: None)
    (tmp_path / "www").mkdir()
    (tmp_path / "www" / loopback.NAME).write_bytes(b"content")
    with loopback.fast_origin(tmp_path, tmp_path) as served, urllib.request.urlopen(served.url) as answer:
        assert b"content" == answer.read()
        assert "testbed.origin" in Path(f"/proc/{served.pid}/cmdline").read_text()
