"""The supernode as a process: wrong flags, an unusable volume, and signals."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.eventually import eventually, eventually_blocking
from tests.support.supernode_lab import SupernodeProcess


def start(*flags: str) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PANTALA_")}
    return subprocess.Popen(
        [sys.executable, "-m", "pantala_supernode", *flags], stderr=subprocess.PIPE, text=True, env=environment
    )


def refused(*flags: str) -> tuple[int, str]:
    process = start(*flags)
    _, errors = process.communicate(timeout=30)
    assert "Traceback" not in errors
    return process.returncode, errors


@pytest.mark.parametrize(
    ("flags", "advice"),
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
def test_wrong_flags_end_with_2_and_name_the_remedy(flags: list[str], advice: str) -> None:
    code, text = refused(*flags)
    assert 2 == code
    assert advice in text


def test_an_unusable_volume_ends_with_1_and_its_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, text = refused("--data", str(tmp_path / "file"), "--no-auth", "--listen", "127.0.0.1:0")
    assert 1 == code
    assert str(tmp_path / "file") in text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_with_0_within_seconds(tmp_path: Path, number: signal.Signals) -> None:
    async with SupernodeProcess(tmp_path) as supernode:
        await supernode.start()
        await eventually(supernode.is_ready)
        os.kill(supernode.running.pid, number)
        await eventually(lambda: supernode.running.returncode is not None, within=10)
        assert 0 == supernode.running.returncode
        assert "Traceback" not in supernode.log.read_text()


def test_foreign_files_on_the_volume_are_kept(tmp_path: Path) -> None:
    """F17: a volume without an identity counts as empty, and nothing on it is deleted."""
    foreign = tmp_path / "tasks" / "ab"
    foreign.mkdir(parents=True)
    (foreign / "precious").write_text("mine")
    process = start("--data", str(tmp_path), "--no-auth", "--listen", "127.0.0.1:0", "--piece-listen", "127.0.0.1:0")
    eventually_blocking((tmp_path / "volume.json").exists, within=30)
    process.terminate()
    process.communicate(timeout=10)
    assert "mine" == (foreign / "precious").read_text()
