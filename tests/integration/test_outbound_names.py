"""Lookups of host names that never end."""

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from typing import Any

import pytest

from pantala_supernode import errors
from pantala_supernode.outbound.errors import CancelledTransferError, Fault, OutboundError
from pantala_supernode.outbound.names import Names
from pantala_supernode.outbound.request import Timeouts
from pantala_supernode.tasks.copy import FileSource
from testbed.origin import Generated, Origin
from tests.support.outbound import http_reader

_PROCESS = """
import asyncio, time
from pantala_supernode.outbound.names import Names
from tests.support.outbound import http_reader
from pantala_supernode.tasks.copy import FileSource

async def main():
    async with http_reader(lookup=lambda host, port: time.sleep(60)) as reader:
        async with asyncio.timeout(0.2), reader.open(FileSource("http://dead.example/")):
            pass

try:
    asyncio.run(main())
except TimeoutError:
    print("ended")
"""


class NameServer:
    """Answers all names except those that begin with ``dead``."""

    def __init__(self) -> None:
        self.lookups: list[str] = []
        self.released = threading.Event()

    def __call__(self, host: str, port: int) -> Sequence[str]:
        self.lookups.append(host)
        if host.startswith("dead"):
            self.released.wait(60)
        return ["127.0.0.1"]


@pytest.fixture
def server() -> Iterator[NameServer]:
    made = NameServer()
    yield made
    made.released.set()


async def read(url: str, **options: Any) -> int | None:
    async with http_reader(**options) as reader, reader.open(FileSource(url)) as answer:
        return answer.length


async def test_a_cancelled_request_leaves_its_lookup_at_once(server: NameServer) -> None:
    async with http_reader(lookup=server, threads=4, timeouts=Timeouts(connect=30)) as reader:
        for number in range(9):  # more than there are threads
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01), reader.open(FileSource(f"http://dead-{number}.example/")):
                    pass
        async with Origin() as origin, asyncio.timeout(2):
            origin.serve("/file", Generated(10))
            async with reader.open(FileSource(f"http://alive.example:{origin.port}/file")) as answer:
                assert answer.length == 10


async def test_a_name_server_has_a_time_limit(server: NameServer) -> None:
    with pytest.raises(errors.SourceTimeoutError, match="name server"):
        await read("http://dead.example/", lookup=server, timeouts=Timeouts(connect=0.2))


def test_the_number_of_lookups_is_limited(server: NameServer) -> None:
    names, cancelled = Names(server), Future[None]()
    cancelled.set_result(None)
    for number in range(512):
        with pytest.raises(CancelledTransferError):
            names.addresses(f"dead-{number}.example", 80, seconds=5, cancelled=cancelled)
    with pytest.raises(OutboundError) as caught:
        names.addresses("alive.example", 80, seconds=5, cancelled=Future())
    assert caught.value.fault is Fault.TIMEOUT


def test_a_lookup_does_not_delay_the_end_of_the_process() -> None:
    begun = time.monotonic()
    ended = subprocess.run([sys.executable, "-c", _PROCESS], capture_output=True, text=True, timeout=30, check=True)
    assert ended.stdout == "ended\n"
    assert time.monotonic() - begun < 10
