"""Channels between two threads over real sockets, plain and with TLS."""

import contextlib
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from pantala_pieces.transfer.channel import TICK, Channel, ChannelClosedError

DATA = os.urandom(1_000_000)


class Ends:
    """A channel that was opened, and the channel that was accepted for it."""

    def __init__(self, *, server: ssl.SSLContext | None, client: ssl.SSLContext | None) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        accepted: list[Channel] = []

        def accept() -> None:
            connection = self._listener.accept()[0]
            accepted.append(Channel(connection if server is None else server.wrap_socket(connection, server_side=True)))

        thread = threading.Thread(target=accept)
        thread.start()
        self.opened = Channel.connect("127.0.0.1", self.port, timeout=2.0, tls=client)
        thread.join()
        (self.accepted,) = accepted

    def close(self) -> None:
        for each in (self.opened, self.accepted, self._listener):
            each.close()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(params=["plain", "tls"])
def ends(request: pytest.FixtureRequest, authority: trustme.CA) -> Iterator[Ends]:
    server = client = None
    if request.param == "tls":
        server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
        authority.issue_cert("127.0.0.1").configure_cert(server)
        authority.configure_trust(client)
    made = Ends(server=server, client=client)
    yield made
    made.close()


def receive(channel: Channel, size: int, wake_at: int = 1) -> bytes:
    buffer, count = bytearray(size), 0
    while count < size:
        count += channel.receive(memoryview(buffer)[count:], wake_at=min(wake_at, size - count))
    return bytes(buffer)


def send(channel: Channel, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[channel.send(view) :]


@pytest.mark.parametrize("wake_at", [1, 100_000])
def test_bytes_arrive_in_order(ends: Ends, wake_at: int) -> None:
    for sender, receiver in ((ends.opened, ends.accepted), (ends.accepted, ends.opened)):
        thread = threading.Thread(target=send, args=(sender, DATA))
        thread.start()
        assert DATA == receive(receiver, len(DATA), wake_at)
        thread.join()


def test_a_range_of_a_file_arrives(ends: Ends, tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(DATA)
    with path.open("rb") as file:

        def send_file() -> None:
            offset = 1000
            while offset < len(DATA):
                offset += ends.accepted.send_file(file.fileno(), offset, len(DATA) - offset)

        thread = threading.Thread(target=send_file)
        thread.start()
        assert DATA[1000:] == receive(ends.opened, len(DATA) - 1000)
        thread.join()
        with pytest.raises(EOFError):
            ends.accepted.send_file(file.fileno(), len(DATA), 1)


def test_a_call_returns_after_a_tick_with_what_is_there(ends: Ends) -> None:
    begun = time.monotonic()
    assert 0 == ends.opened.receive(memoryview(bytearray(10)))
    assert TICK / 2 < time.monotonic() - begun < 4 * TICK
    send(ends.accepted, b"few")
    assert 3 == ends.opened.receive(memoryview(bytearray(100_000)), wake_at=100_000)


def test_the_last_bytes_wake_the_thread_at_once(ends: Ends) -> None:
    """Some of the bytes are there when it begins to wait."""
    begun = time.monotonic()
    for _ in range(10):
        send(ends.accepted, DATA[:50_000])
        timer = threading.Timer(0.05, send, (ends.accepted, DATA[50_000:100_000]))
        timer.start()
        assert DATA[:100_000] == receive(ends.opened, 100_000, wake_at=100_000)
        timer.join()
    assert time.monotonic() - begun < 10 * TICK


def test_an_idle_channel_is_stale_after_unexpected_bytes_or_the_end(ends: Ends) -> None:
    send(ends.accepted, b"1234")
    receive(ends.opened, 4, wake_at=4)  # with it, TLS receives its own messages
    assert not ends.opened.stale
    send(ends.accepted, b"x")
    assert ends.opened.stale
    receive(ends.opened, 1)
    assert not ends.opened.stale
    ends.accepted.close()
    assert ends.opened.stale
    with pytest.raises(ChannelClosedError):
        ends.opened.receive(memoryview(bytearray(1)))


def test_another_thread_aborts_a_call_at_once(ends: Ends) -> None:
    begun = time.monotonic()
    timer = threading.Timer(0.1, ends.opened.abort)
    timer.start()
    with pytest.raises(ChannelClosedError):
        ends.opened.receive(memoryview(bytearray(1)))
    assert time.monotonic() - begun < TICK
    with pytest.raises(ChannelClosedError):
        ends.opened.send(b"x")
    timer.join()
    ends.opened.close()
    ends.opened.abort()


@contextlib.contextmanager
def full_backlog() -> Iterator[int]:
    """The port of a listener that lets new connections wait."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(2):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


def test_a_connection_that_is_not_accepted_has_a_deadline() -> None:
    with full_backlog() as port, pytest.raises(TimeoutError):
        Channel.connect("127.0.0.1", port, timeout=0.2)


def test_another_thread_aborts_the_connecting_at_once() -> None:
    begun, timers = time.monotonic(), list[threading.Timer]()

    def abort_soon(channel: Channel) -> None:
        timers.append(threading.Timer(0.1, channel.abort))
        timers[0].start()

    with full_backlog() as port, contextlib.suppress(OSError):
        channel = Channel.connect("127.0.0.1", port, timeout=5.0, begun=abort_soon)
        with contextlib.closing(channel), pytest.raises(ChannelClosedError):
            channel.send(b"x")
    assert time.monotonic() - begun < 2.0
    timers[0].join()


@pytest.mark.parametrize("host", ["nowhere.invalid", "a" * 70 + ".invalid"])
def test_a_host_that_does_not_exist_is_an_os_error(host: str) -> None:
    with pytest.raises(OSError, match=r"name|known|valid|service"):
        Channel.connect(host, 1, timeout=0.5)


@pytest.mark.parametrize("name", ["a" * 70 + ".corp", ".corp"])
def test_a_name_that_no_certificate_can_have_is_an_os_error(name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(OSError, match=f"'{name}' is not a valid name of a server"):
            Channel.connect("127.0.0.1", port, timeout=2.0, tls=ssl.create_default_context(), name=name)


def test_a_certificate_of_an_unknown_authority_is_an_os_error(authority: trustme.CA) -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            with contextlib.suppress(OSError):
                server.wrap_socket(listener.accept()[0], server_side=True)

        thread = threading.Thread(target=accept)
        thread.start()
        with pytest.raises(ssl.SSLCertVerificationError):
            Channel.connect("127.0.0.1", listener.getsockname()[1], timeout=2.0, tls=client)
        thread.join()
