"""Hosts in network namespaces around one switch. Each link is shaped in both directions."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from testbed.cluster.command import run

_CLONE_NEWNET = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Host:
    """A network namespace with one link to the switch."""

    namespace: str
    address: str

    def command(self, *arguments: str) -> list[str]:
        """The command line that runs the command on the host, in the same process (``exec``)."""
        return ["nsenter", f"--net=/run/netns/{self.namespace}", *arguments]

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Sockets that this thread opens in the block belong to the host."""
        with Path("/proc/thread-self/ns/net").open() as own, Path("/run/netns", self.namespace).open() as other:
            _set_namespace(other.fileno())
            try:
                yield
            finally:
                _set_namespace(own.fileno())


class Network:
    """The switch and its hosts. At the end of the context all of them are removed."""

    def __init__(self) -> None:
        self._prefix = f"pantala-bench-{os.getpid()}"
        self._switch = f"{self._prefix}-switch"
        self._namespaces: list[str] = []

    def __enter__(self) -> Self:
        self._add(self._switch)
        _in(self._switch, "link", "add", "switch", "type", "bridge")
        _in(self._switch, "link", "set", "switch", "up")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for namespace in reversed(self._namespaces):
            run("ip", "netns", "delete", namespace, check=False)

    def host(self, name: str, megabits: int) -> Host:
        """Add a host with a link of ``megabits`` per second in each direction."""
        number = len(self._namespaces)
        host = Host(f"{self._prefix}-{name}", f"10.99.0.{number}")
        self._add(host.namespace)
        link = f"link{number}"
        _in(self._switch, "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", host.namespace)
        _in(self._switch, "link", "set", link, "master", "switch", "up")
        _in(host.namespace, "address", "add", f"{host.address}/24", "dev", "eth0")
        _in(host.namespace, "link", "set", "eth0", "up")
        _shape(host.namespace, "eth0", megabits)
        _shape(self._switch, link, megabits)
        return host

    def _add(self, namespace: str) -> None:
        self._namespaces.append(namespace)
        run("ip", "netns", "add", namespace)
        _in(namespace, "link", "set", "lo", "up")


def _in(namespace: str, *arguments: str) -> None:
    run("ip", "-netns", namespace, *arguments)


def _shape(namespace: str, device: str, megabits: int) -> None:
    """Limit a link by a token bucket with a short queue, like a real line. Its burst is 32 KiB: 5 ms at 50 Mbit/s."""
    rate = ("rate", f"{megabits}mbit", "burst", "32kb", "latency", "50ms")
    run("tc", "-netns", namespace, "qdisc", "add", "dev", device, "root", "tbf", *rate)


def _set_namespace(descriptor: int) -> None:
    if _LIBC.setns(descriptor, _CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
