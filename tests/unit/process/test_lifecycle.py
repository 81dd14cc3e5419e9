"""Parts of every process: its settings, its life, shared calls, probes and logs."""

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence

import pytest

from pantala_process import backoff, lifecycle
from pantala_process.backoff import Backoff
from pantala_process.lifecycle import Stop
from pantala_process.settings import SettingsError


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_process_with_0(number: signal.Signals) -> None:
    async def life(stop: Stop) -> None:
        os.kill(os.getpid(), number)
        await stop.asked.wait()
        assert (number == signal.SIGINT) == stop.at_once.is_set()
        os.kill(os.getpid(), signal.SIGTERM)
        await stop.at_once.wait()

    with pytest.raises(SystemExit) as ended:
        lifecycle.run("example", life, failures=())
    assert 0 == ended.value.code


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError("the disk is gone"), "the disk is gone"),
        (OSError(98, "the disk is gone"), "the disk is gone"),
        (OSError(13, "no", "/f"), "cannot use /f: no. Check this path, and the access of this process"),
    ],
)
def test_a_failure_ends_the_process_with_1(error: OSError, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    async def life(_stop: Stop) -> None:
        raise error

    with pytest.raises(SystemExit) as ended:
        lifecycle.run("example", life, failures=(OSError,))
    assert 1 == ended.value.code
    logged = capsys.readouterr().out
    assert (True, False) == (text in logged, "Errno" in logged)


def test_wrong_settings_end_the_process_with_2_and_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def parse(_arguments: Sequence[str], _environment: Mapping[str, str]) -> None:
        raise SettingsError("--data is missing.")

    with pytest.raises(SystemExit) as ended:
        lifecycle.settings("example", parse)
    assert 2 == ended.value.code
    assert "example: --data is missing.\n" == capsys.readouterr().err


async def test_work_is_cancelled_when_the_stop_is_set_and_its_error_is_raised() -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().call_soon(stop.set)
    assert None is await lifecycle.until(stop, asyncio.sleep(60, "late"))
    assert "done" == await lifecycle.until(asyncio.Event(), asyncio.sleep(0, "done"))

    async def fail() -> None:
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        await lifecycle.until(asyncio.Event(), fail())


def test_pauses_double_up_to_a_limit_and_start_again() -> None:
    assert [1, 1, 2, 4, 8, 8] == [backoff.doubled(1, 8, failures) for failures in (0, 1, 2, 3, 4, 10_000)]
    pauses = Backoff(1, 8)
    for expected in (1, 2, 4, 8, 8):
        assert expected / 2 <= pauses.next() <= expected
    pauses.reset()
    assert pauses.next() <= 1
