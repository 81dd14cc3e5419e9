"""A process whose threads put pieces is killed."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pantala_pieces.store import PieceStore
from pantala_protocol import ranges
from tests.property.test_concurrent_puts import THREADS

PROGRAM = f"""
import os, sys, threading
from pathlib import Path
from pantala_pieces.meta import Meta
from pantala_pieces.store import PieceStore
from tests.property.test_concurrent_puts import PIECES, SIZE, TASK, piece
file = PieceStore(Path(sys.argv[1]), durable=False).create(Meta(TASK, "g", SIZE, 1000 * SIZE))
def work(first):
    for number in range(first, 1000, {THREADS}):
        file.put([piece(number)])
        os.write(1, b"%d\\n" % number)
for first in range({THREADS}):
    threading.Thread(target=work, args=(first,)).start()
"""


@pytest.mark.parametrize("seed", range(6))
def test_a_kill_loses_no_piece_that_was_put(tmp_path: Path, seed: int) -> None:
    with subprocess.Popen([sys.executable, "-c", PROGRAM, str(tmp_path)], stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        first = running.stdout.readline()
        time.sleep(random.Random(seed).uniform(0.0, 0.05))
        running.send_signal(signal.SIGKILL)
        rest = running.stdout.read()
    put = {int(line) for line in (first + rest).split(b"\n")[:-1]}
    (file,) = PieceStore(tmp_path, durable=False).open()
    assert put <= set(ranges.members(file.verify()))
    file.close()
