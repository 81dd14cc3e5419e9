"""Processes listen for IPv6 and IPv4 alike."""

import errno
import socket
from collections.abc import AsyncIterator, Callable

import aiohttp
import pytest
from aiohttp import web

from pantala_process.entrance.server import serving
from pantala_process.listening import client_address, listening
from pantala_process.settings import ListenAddress, address


async def _who(request: web.Request) -> web.Response:
    return web.Response(text=client_address(request))


@pytest.fixture
async def asked() -> AsyncIterator[Callable[..., object]]:
    async with aiohttp.ClientSession() as session:

        async def ask(host: str, port: int) -> str | None:
            try:
                async with session.get(f"http://{host}:{port}/who") as answer:
                    return await answer.text() if answer.ok else None  # another process may own the other port
            except aiohttp.ClientError:
                return None

        yield ask


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("[::]:0", {"127.0.0.1": "127.0.0.1", "[::1]": "::1"}),
        (":0", {"127.0.0.1": "127.0.0.1", "[::1]": "::1"}),
        ("0.0.0.0:0", {"127.0.0.1": "127.0.0.1", "[::1]": None}),
        ("127.0.0.1:0", {"127.0.0.1": "127.0.0.1", "[::1]": None}),
        ("[::1]:0", {"127.0.0.1": None, "[::1]": "::1"}),
    ],
)
async def test_an_address_is_served_in_its_families(
    asked: Callable[..., AsyncIterator[str]], given: str, expected: dict[str, str | None]
) -> None:
    app = web.Application()
    app.add_routes([web.get("/who", _who)])
    async with serving(app, address(given), grace=1.0, most=64) as port:
        assert expected == {host: await asked(host, port) for host in expected}  # type: ignore[misc]


@pytest.mark.parametrize("number", [errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL])
def test_a_kernel_without_ipv6_is_served_over_ipv4(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    real = socket.socket

    def without_ipv6(family: int, kind: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(number, "no IPv6")
        return real(family, kind)

    monkeypatch.setattr(socket, "socket", without_ipv6)
    with listening(ListenAddress("::", 0)) as (opened,):
        assert (socket.AF_INET, "0.0.0.0") == (opened.family, opened.getsockname()[0])


def test_a_port_in_use_is_an_error_that_names_it() -> None:
    with listening(ListenAddress("::", 0)) as (first,):
        first.listen()
        port = first.getsockname()[1]
        for host in ("::", "127.0.0.1"):
            message = rf"cannot listen at .*:{port}: address already in use\. Give another address .* as --x-listen$"
            with pytest.raises(OSError, match=message), listening(ListenAddress(host, port), "--x-listen"):
                pass


@pytest.mark.parametrize("host", ["unknown.invalid", "x" * 64])
def test_a_host_without_an_address_is_an_error_that_names_the_flag(host: str) -> None:
    message = f"cannot listen at {host}:0: the host has no address. Give another address of this machine as --listen"
    with pytest.raises(OSError, match=message), listening(ListenAddress(host, 0), "--listen"):
        pass


def test_sockets_are_closed_at_the_end() -> None:
    with listening(ListenAddress("localhost", 0)) as opened:
        pass
    assert {-1} == {each.fileno() for each in opened}
