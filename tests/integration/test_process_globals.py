"""What the shared base changes for a whole process: the lines in its log, and its memory."""

import subprocess
import sys

import pytest

from pantala_process import settings

_PROGRAM = """
import gc
from pantala_process import memory

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

blocks = [bytearray(b"x") * 100_000 for _ in range(2000)]
kept = blocks[::100]
del blocks
gc.collect()
before = resident()
memory.trim()
print(before - resident())
"""


def test_gaps_between_used_blocks_return_to_the_system() -> None:
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, check=True, text=True)
    assert int(done.stdout) > 100_000_000


@pytest.mark.parametrize(
    ("level", "expected"), [("debug", {"a", "b", "c"}), ("info", {"b", "c"}), ("warning", {"c"}), ("error", set())]
)
def test_lines_below_the_level_are_hidden(level: str, expected: set[str]) -> None:
    program = (
        "import logging, structlog, sys; from pantala_process import logs; "
        f"logs.configure({settings.log_level(level)}); log = structlog.get_logger('x'); "
        "log.debug('line-a'); log.info('line-b'); logging.getLogger('y').warning('line-c')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert expected == {word for word in "abc" if f"line-{word}" in done.stderr}
