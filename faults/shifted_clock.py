"""``python -m faults.shifted_clock FILE MODULE ...`` runs a module whose wall clock is wrong by the seconds in FILE.

The file may change at any time, so the clock jumps. Monotonic time stays right, as the kernel guarantees.
"""

import runpy
import sys
import time
from pathlib import Path

_EVERY = 0.05
"""Seconds between two looks at the file."""


class ShiftedClock:
    """A wall clock that reads its error from a file."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._true = time.time
        self._looked = -1.0
        self._shift = 0.0

    def time(self) -> float:
        if time.monotonic() > self._looked + _EVERY:
            self._looked = time.monotonic()
            self._shift = float(self._file.read_text() or 0)
        return self._true() + self._shift


def main(arguments: list[str]) -> None:
    file, module, *rest = arguments
    clock = ShiftedClock(Path(file))
    time.time = clock.time
    time.time_ns = lambda: int(clock.time() * 1e9)
    sys.argv = [module, *rest]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1:])
