"""``python -m tests.support.slow_receiver FILE MODULE ...`` runs a module whose threads receive bytes slowly.

FILE has the bytes per second for all threads together. It may change at any time. An empty file: no limit. The main
thread, which has the exchanges of a peer, stays fast.
"""

import runpy
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_LEAST = 256
"""A read of fewer bytes is not delayed: it is the head of an answer."""


class SlowReceiver:
    """Delays the reads of all threads but the main one."""

    def __init__(self, file: Path, receive: Callable[..., int]) -> None:
        self._file = file
        self._receive = receive
        self._turn = threading.Lock()

    def recv_into(self, connection: socket.socket, *arguments: Any) -> int:
        count = self._receive(connection, *arguments)
        if count >= _LEAST and threading.current_thread() is not threading.main_thread():
            with self._turn:
                rate = float(self._file.read_text() or 0)
                if rate:
                    time.sleep(count / rate)
        return count


def main(arguments: list[str]) -> None:
    """Run the module with its arguments."""
    file, module, *rest = arguments
    slow = SlowReceiver(Path(file), socket.socket.recv_into)

    def recv_into(connection: socket.socket, *given: Any) -> int:
        return slow.recv_into(connection, *given)

    socket.socket.recv_into = recv_into  # type: ignore[method-assign, assignment]
    sys.argv = [module, *rest]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1:])
