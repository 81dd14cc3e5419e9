"""Runs a module as a program in which the name server does not answer for names that begin with ``dead``."""

import runpy
import socket
import sys
import time
from typing import Any

_ask = socket.getaddrinfo


def _answer(host: Any, *more: Any, **named: Any) -> Any:
    if str(host).startswith("dead"):
        time.sleep(40)
        raise socket.gaierror(socket.EAI_AGAIN, "the name server does not answer")
    return _ask(host, *more, **named)


if __name__ == "__main__":
    socket.getaddrinfo = _answer
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
