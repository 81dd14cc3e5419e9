"""One run at a time has the testbed's cluster."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from testbed.cluster import layout
from testbed.cluster.command import CommandError
from testbed.cluster.turn import turn

_HOLDER = """
import sys, time
from pathlib import Path
from testbed.cluster import layout
from testbed.cluster.turn import turn
layout.TURN = Path(sys.argv[1])
with turn():
    print("mine", flush=True)
    time.sleep(60)
"""


def test_a_second_run_waits_and_the_end_of_the_first_by_whatever_frees_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "TURN", tmp_path / "turn")
    with subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(layout.TURN)], stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout is not None
        assert "mine\n" == first.stdout.readline()
        with pytest.raises(CommandError, match="Another run"), turn(within=0.0):
            pass
        first.kill()
    begun = time.monotonic()
    with turn(within=0.0):
        assert time.monotonic() - begun < 5
