"""The supernode as a process: how it starts, refuses and ends."""

import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.eventually import eventually_blocking


def start(*flags: str) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PANTALA_")}
    return subprocess.Popen(
        [sys.executable, "-m", "pantala_supernode", *flags], stderr=subprocess.PIPE, text=True, env=environment
    )


def refused(*flags: str) -> tuple[int, str]:
    process = start(*flags)
    _, said = process.communicate(timeout=30)
    return process.returncode, said


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ([], "--data is missing"),
        (["--data", "x", "--listen", "nowhere"], "is not HOST:PORT"),
        (["--data", "x", "--listen", "0.0.0.0:1", "--no-auth"], "add --i-know"),
        (["--data", "x", "--deny-source", "10.0.0.1/8"], "Give networks"),
        (["--data", "x", "--disk-low", "95"], "Give the lower one as --disk-low"),
        (["--data", "x", "--disk-high", "0"], "from 1 to 100"),
        (["--data", "x", "--origin-rate", "fast"], "Give bytes a second"),
        (["--data", "x", "--serve-rate", "0"], "Give bytes a second"),
        (["--data", "x", "--piece-size-rule", "large"], "swarm, dragonfly"),
        (["--unknown"], "unrecognized arguments"),
    ],
)
def test_wrong_flags_end_with_2_and_a_line_that_says_what_to_do(flags: list[str], said: str) -> None:
    code, text = refused(*flags)
    assert 2 == code
    assert said in text
    assert "Traceback" not in text


def test_a_volume_that_cannot_be_used_ends_with_1_and_says_which(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, text = refused("--data", str(tmp_path / "file"), "--no-auth", "--listen", "127.0.0.1:0")
    assert 1 == code
    assert str(tmp_path / "file") in text
    assert "Traceback" not in text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_0_within_seconds(
    tmp_path: Path, unused_tcp_port_factory: Callable[[], int], number: signal.Signals
) -> None:
    port = unused_tcp_port_factory()
    flags = ["--data", str(tmp_path), "--no-auth", "--listen", f"127.0.0.1:{port}"]
    process = start(*flags, "--piece-listen", f"127.0.0.1:{unused_tcp_port_factory()}")

    def is_ready() -> bool:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1):
            return True

    eventually_blocking(is_ready, within=30, ignoring=OSError)
    process.send_signal(number)
    _, said = process.communicate(timeout=10)
    assert 0 == process.returncode
    assert "Traceback" not in said


def test_tasks_of_somebody_else_on_the_volume_are_left_alone(tmp_path: Path) -> None:
    """F17: a volume that was replaced is taken for empty, and nothing of it is deleted."""
    foreign = tmp_path / "tasks" / "ab"
    foreign.mkdir(parents=True)
    (foreign / "precious").write_text("mine")
    process = start("--data", str(tmp_path), "--no-auth", "--listen", "127.0.0.1:0", "--piece-listen", "127.0.0.1:0")
    eventually_blocking((tmp_path / "volume.json").exists, within=30)
    process.terminate()
    process.communicate(timeout=10)
    assert "mine" == (foreign / "precious").read_text()
