"""Names that no name server resolves delay nothing else."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any
from unittest.mock import Mock

import pytest

from pantala_pieces.transfer.channel import Channel
from pantala_process import names
from pantala_process.names import LookupsBusyError, LookupThreads, NamesEventLoop

FOUND = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 80))]


class NameServer:
    """Answers all names except those that begin with ``dead``, until it is released."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.released = threading.Event()

    def __call__(self, host: str, *_: Any) -> list[Any]:
        self.asked.append(host)
        if host.startswith("dead"):
            self.released.wait(60)
        return FOUND


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[NameServer]:
    made = NameServer()
    monkeypatch.setattr(socket, "getaddrinfo", made)
    yield made
    made.released.set()


def test_h7_dead_names_do_not_delay_files_or_other_names(server: NameServer) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        dead = [asyncio.create_task(loop.getaddrinfo(f"dead-{number}", 80)) for number in range(100)]
        await asyncio.sleep(0.1)
        assert "here" == await asyncio.to_thread(lambda: "here")
        assert FOUND == await loop.getaddrinfo("alive", 80)
        assert not any(each.done() for each in dead)
        server.released.set()
        await asyncio.gather(*dead, return_exceptions=True)

    with asyncio.Runner(loop_factory=NamesEventLoop) as runner:
        runner.run(main())


def test_h7_a_dead_name_fails_in_time(server: NameServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "_LIMIT", 0.2)

    async def main() -> list[Any]:
        loop = asyncio.get_running_loop()
        return await asyncio.gather(*(loop.getaddrinfo(f"dead-{n}", 80) for n in range(100)), return_exceptions=True)

    with asyncio.Runner(loop_factory=NamesEventLoop) as runner:
        assert {TimeoutError} == {type(each) for each in runner.run(main())}


def test_h7_a_caller_that_leaves_does_not_end_the_lookup_of_others(server: NameServer) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        first, second = (asyncio.create_task(loop.getaddrinfo("dead", 80)) for _ in range(2))
        await asyncio.sleep(0.05)
        first.cancel()
        await asyncio.sleep(0)
        server.released.set()
        assert FOUND == await second
        assert ["dead"] == server.asked

    with asyncio.Runner(loop_factory=NamesEventLoop) as runner:
        runner.run(main())


def test_h7_a_connection_waits_for_a_name_server_only_as_long_as_it_may(server: NameServer) -> None:
    begun = time.monotonic()
    with pytest.raises(OSError, match="name server"):
        Channel.connect("dead", 80, timeout=0.2)
    assert time.monotonic() - begun < 5


def test_h7_lookups_are_bounded_and_addresses_need_none(server: NameServer) -> None:
    threads: LookupThreads[str, list[Any]] = LookupThreads(server, most=2)
    waiting = [threads.ask("dead-1"), threads.ask("dead-2")]
    assert waiting[0] is threads.ask("dead-1")
    with pytest.raises(LookupsBusyError):
        threads.ask("dead-3")
    server.released.set()
    assert [FOUND, FOUND] == [each.result(5) for each in waiting]
    assert FOUND == threads.ask("alive").result(5)
    assert [True, True, False] == [names.is_address(each) for each in ("10.0.0.1", "::1", "10.0.0.1.example")]


def test_f20_a_lookup_without_a_thread_fails_and_the_next_one_of_the_name_works(
    server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pod may have only a limited number of threads."""
    threads: LookupThreads[str, list[Any]] = LookupThreads(server)
    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", Mock(side_effect=RuntimeError("can't start new thread")))
        with pytest.raises(LookupsBusyError):
            threads.ask("alive")
    assert FOUND == threads.ask("alive").result(5)
