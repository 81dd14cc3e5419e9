"""Freed memory returns to the system."""

import subprocess
import sys

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
