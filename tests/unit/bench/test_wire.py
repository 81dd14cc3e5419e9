"""The raw HTTP client of small files reads whole answers, and refuses others."""

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from bench.connection import content_length
from bench.errors import BenchError
from bench.small.wire import Wires

ADDRESS = "127.0.0.1"


@contextlib.contextmanager
def server(*parts: bytes) -> Iterator[int]:
    """Answers each connection with these parts, and then closes it."""
    with socket.create_server((ADDRESS, 0)) as listening:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    with connection:
                        connection.recv(1000)
                        for part in parts:
                            connection.sendall(part)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield int(listening.getsockname()[1])
        listening.shutdown(socket.SHUT_RDWR)
    thread.join()


def test_an_answer_in_parts_is_joined() -> None:
    with (
        contextlib.closing(Wires()) as wires,
        server(b"HTTP/1.1 206 X\r\ncontent-", b"LENGTH: 4\r\n\r\na", b"bcd") as port,
    ):
        assert b"abcd" == wires.ask(ADDRESS, port, b"GET")


def test_requests_at_once_have_a_connection_each() -> None:
    with contextlib.closing(Wires()) as wires, server(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na") as port:
        assert [b"a", b"a"] == wires.ask_all([(ADDRESS, port, b"GET")] * 2)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\ngone", "404 Not Found.* b'gone'"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab", "closed a connection in the middle"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "has no length"),
        (b"", "closed a connection"),
    ],
)
def test_other_answers_are_errors(answer: bytes, message: str) -> None:
    with contextlib.closing(Wires()) as wires, server(answer) as port, pytest.raises(BenchError, match=message):
        wires.ask(ADDRESS, port, b"GET")


def test_a_length_is_found_in_any_case() -> None:
    assert 12 == content_length(b"HTTP/1.1 200 OK\r\nA: b\r\ncOntent-length:  12")
