"""CPU time is counted for the right processes, and the bench waits for a calm machine."""

import os
import subprocess
import sys
import time

import pytest

from bench import usage

BURN = "import time; end = time.process_time() + 0.3\nwhile time.process_time() < end: pass\nprint('done', flush=True)"


def test_a_meter_counts_a_process_and_its_children() -> None:
    """The shell waits for its child, and the meter stops before the shell has ended."""
    command = f'read line; {sys.executable} -c "$1"; read line'
    shell = subprocess.Popen(
        ["sh", "-c", command, "sh", BURN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with shell:
        assert shell.stdin is not None
        assert shell.stdout is not None
        meter = usage.Meter({"shell": [shell.pid], "none": []})
        shell.stdin.write("go\n")
        shell.stdin.flush()
        assert "done\n" == shell.stdout.readline()
        meter.stop()
        shell.stdin.write("end\n")
    assert 0.25 < meter.cpu["shell"] < 5
    assert 0.0 == meter.cpu["none"]
    assert meter.seconds > 0.25


def test_own_work_is_not_foreign() -> None:
    """This process burns a whole core. Other processes may use the other cores."""
    meter = usage.Meter({})
    end = time.process_time() + 0.5
    while time.process_time() < end:
        pass
    meter.stop()
    assert meter.foreign <= (os.cpu_count() or 1) - 0.5 / meter.seconds + 0.1


def test_a_wait_ends_when_the_machine_is_calm() -> None:
    loads = [1.5, 0.2, 0.1, 0.0]
    assert 0.1 == usage.wait_calm(60, lambda: loads.pop(0))
    assert [0.0] == loads


def test_a_wait_ends_after_the_longest_time_with_the_load() -> None:
    assert 1.5 == usage.wait_calm(0, lambda: 1.5)


def test_the_peak_memory_of_this_process_is_plausible() -> None:
    assert 10 < usage.peak_mebibytes(os.getpid()) < 4000


def test_a_process_that_ended_has_no_cpu_time() -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    with pytest.raises(OSError, match="No such file"):
        usage.cpu_seconds(ended.pid)
