"""Sockets at an address to listen at: ``[::]`` and an empty host mean all addresses, of IPv6 and of IPv4.

asyncio would bind ``::`` for IPv6 alone, and a pod may have addresses of either family.
"""

import contextlib
import errno
import ipaddress
import resource
import socket
from collections.abc import Iterator

from aiohttp import web

from pantala_process.settings import ListenAddress

_WITHOUT_IPV6 = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL})
_EVERY = frozenset({"", "::"})

_MOST_FILES = 1 << 16
"""The most open files that a process of Pantala needs."""


def allow_files() -> None:
    """Raise the process's limit of open files to :data:`_MOST_FILES`, or as far as permitted. It is often 1024."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    allowed = _MOST_FILES if hard == resource.RLIM_INFINITY else min(_MOST_FILES, hard)
    if file_limit() < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))


def file_limit() -> int:
    """How many files and connections the process may have open."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return _MOST_FILES if soft == resource.RLIM_INFINITY else soft


@contextlib.contextmanager
def listening(address: ListenAddress, flag: str = "") -> Iterator[list[socket.socket]]:
    """Bind a socket to each address of the host, and close them at the end.

    Raises :class:`OSError`, which names the ``flag`` of the address.
    """
    with contextlib.ExitStack() as stack:
        try:
            if address.host in _EVERY:
                opened = [stack.enter_context(_both_families(address.port))]
            else:
                found = socket.getaddrinfo(*address, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
                opened = [stack.enter_context(_bound(family, place)) for family, _, _, _, place in dict.fromkeys(found)]
        except (OSError, UnicodeError) as error:
            raise _failure(address, flag, error) from None
        for each in opened:
            each.setblocking(False)
        yield opened


def client_address(request: web.Request) -> str:
    """The source address of a request's connection, as :func:`plain_address`."""
    return plain_address(request.remote or "")


def plain_address(text: str) -> str:
    """The usual form of an address. A socket of both families shows ``10.0.0.1`` as ``::ffff:10.0.0.1``."""
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError:
        return text
    return str(address.ipv4_mapped or text)


def _failure(address: ListenAddress, flag: str, error: OSError | UnicodeError) -> OSError:
    shown = f"[{address.host}]:{address.port}" if ":" in address.host else f"{address.host}:{address.port}"
    unknown = isinstance(error, socket.gaierror | UnicodeError)
    why = "the host has no address" if unknown else (getattr(error, "strerror", "") or str(error)).lower()
    return OSError(f"cannot listen at {shown}: {why}. Give another address of this machine{flag and f' as {flag}'}")


def _both_families(port: int) -> socket.socket:
    """A socket for IPv6 and IPv4, or for IPv4 alone if the kernel has no IPv6."""
    try:
        return _bound(socket.AF_INET6, ("::", port), only=False)
    except OSError as error:
        if error.errno not in _WITHOUT_IPV6:
            raise
        return _bound(socket.AF_INET, ("0.0.0.0", port))  # noqa: S104 - the user asked for all addresses


def _bound(family: int, place: tuple[object, ...], *, only: bool = True) -> socket.socket:
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(only))
        opened.bind(place)
    except OSError:
        opened.close()
        raise
    return opened
