"""Origins on loopback: nginx if it is installed, else the testbed's, which is slower."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from bench.errors import BenchError
from bench.network import Loopback
from bench.origin.nginx import nginx_program, serving
from testbed.process import Process

NAME = "file"
"""The name of the large file."""
_SLOW = 1_000_000


class LoopbackOrigin(NamedTuple):
    """A running origin."""

    pid: int
    base: str
    """Its URL, without a slash at the end."""

    @property
    def url(self) -> str:
        """The URL of the large file."""
        return f"{self.base}/{NAME}"


@contextmanager
def fast_origin(folder: Path, own: Path) -> Iterator[LoopbackOrigin]:
    """Serve the folder ``www`` of ``folder`` in the block. ``own``: a folder for the origin's own files."""
    if nginx_program() is None:
        with testbed_origin(own, "--dir", str(folder / "www")) as origin:
            yield origin
    else:
        with serving(folder / "www", own, _SLOW) as nginx:
            yield LoopbackOrigin(nginx.pid, nginx.url("http", "").rstrip("/"))


@contextmanager
def testbed_origin(own: Path, *flags: str) -> Iterator[LoopbackOrigin]:
    """The testbed's origin with these flags, in the block."""
    place = Loopback()
    address = f"{place.address}:{place.port(0)}"
    process = Process([sys.executable, "-m", "testbed.origin", "--listen", address, *flags], own / "origin.log")
    try:
        if not process.becomes(lambda: "listening" in process.tail(), 30):
            raise BenchError(f"The origin does not start:\n{process.tail()}")
        yield LoopbackOrigin(process.pid, f"http://{address}")
    finally:
        process.kill()
