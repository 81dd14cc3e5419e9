"""The origin of the scenario: nginx if it is installed, else the testbed's origin, which is slower."""

from __future__ import annotations

import sys
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from bench.network import Loopback
from bench.origin.nginx import Nginx, nginx_program
from bench.swarm import wait
from testbed.process import Process

NAME = "file"
_SLOW = 1_000_000


class FastOrigin:
    """Serves the folder ``www`` of ``folder`` while the context is entered."""

    def __init__(self, folder: Path, own: Path) -> None:
        self._www = folder / "www"
        self._own = own
        self._stack = ExitStack()
        self.pid = 0
        self.base = ""

    @property
    def url(self) -> str:
        """The URL of the large file."""
        return f"{self.base}/{NAME}"

    def __enter__(self) -> Self:
        try:
            if nginx_program() is not None:
                nginx = self._stack.enter_context(Nginx(self._www, self._own, _SLOW))
                self.pid, self.base = nginx.pid, nginx.url("http", "").rstrip("/")
            else:
                self._start_testbed()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _start_testbed(self) -> None:
        place = Loopback()
        address = f"{place.address}:{place.port(0)}"
        command = [sys.executable, "-m", "testbed.origin", "--listen", address, "--dir", str(self._www)]
        process = Process(command, self._own / "origin.log")
        self._stack.callback(process.kill)
        self.pid, self.base = process.pid, f"http://{address}"
        wait(lambda: _answers(f"{self.base}/{NAME}"), "the origin answers", 30)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=5):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
