"""How a process starts and stops. A signal ends it with exit code 0, also during its start.

Exit codes: 0 after a signal, 1 if the process cannot continue, 2 for wrong settings. The first import of a process must
be this module, so nothing that takes long is imported at its top.
"""

from __future__ import annotations

import gc
import importlib
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")

_SIGNALS = (signal.SIGTERM, signal.SIGINT)

_SWITCH_INTERVAL = 0.001
"""Seconds that a busy event loop may hold the interpreter while the threads that move bytes wait for it. They need it
for microseconds. With the default of 5 ms, each of their steps could wait 5 ms."""

_GARBAGE = (50_000, 20, 20)
"""Thresholds for Python's garbage collector. Exchanges create few cycles of objects. With the default threshold of 700
objects, the collector took a fifth of the CPU time of a supernode with 500 peers."""


def start(module: str, stopped: int = 0) -> None:
    """Import ``module`` and call its ``main``.

    Until ``main`` handles signals, a signal makes the process exit with the code ``stopped``.
    """
    for number in _SIGNALS:
        # The first process of a container gets no default handlers.
        signal.signal(number, lambda *_: sys.exit(stopped))
    importlib.import_module(module).main()


def settings(program: str, parse: Callable[[Sequence[str], Mapping[str, str]], T]) -> T:
    """Read the settings from the command line. Wrong settings end the process with one line and exit code 2."""
    from pantala_process.settings import SettingsError

    try:
        return parse(sys.argv[1:], os.environ)
    except SettingsError as error:
        print(f"{program}: {error}", file=sys.stderr)
        sys.exit(2)


class Stop:
    """Events that signals set. SIGTERM sets ``asked`` (an orderly end). SIGINT or a second SIGTERM sets both."""

    def __init__(self) -> None:
        import asyncio

        self.asked = asyncio.Event()
        self.at_once = asyncio.Event()

    def on_signal(self, number: signal.Signals) -> None:
        if number == signal.SIGINT or self.asked.is_set():
            self.at_once.set()
        self.asked.set()


def run(
    program: str, life: Callable[[Stop], Coroutine[Any, Any, None]], *, failures: tuple[type[Exception], ...]
) -> NoReturn:
    """Run ``life`` until it returns, and exit. ``failures`` are logged without a traceback."""
    import asyncio

    import structlog

    from pantala_process.listening import allow_files
    from pantala_process.names import NamesEventLoop

    async def live() -> None:
        stop, loop = Stop(), asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, stop.on_signal, number)
        await life(stop)

    allow_files()
    sys.setswitchinterval(_SWITCH_INTERVAL)
    gc.freeze()  # the collector need not look at the imported modules, which stay
    gc.set_threshold(*_GARBAGE)
    try:
        with asyncio.Runner(loop_factory=NamesEventLoop) as runner:
            runner.run(live())
    except failures as error:
        text = str(error)
        if isinstance(error, OSError) and error.strerror:  # without [Errno 98]
            where = f"cannot use {error.filename}: " if error.filename else ""
            text = f"{where}{error.strerror}{where and '. Check this path, and the access of this process'}"
        structlog.get_logger(program).error("the process ends because of an error", error=text)
        sys.exit(1)
    sys.exit(0)


async def until(stop: asyncio.Event, work: Coroutine[Any, Any, T]) -> T | None:
    """Run ``work``. When ``stop`` is set, cancel it and return ``None``. Raises the errors of ``work``."""
    import asyncio

    running, stopping = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        running.cancel()
        await asyncio.wait({running, stopping})
    return None if running.cancelled() else running.result()
