"""Places for processes: hosts in network namespaces around one switch, with shaped links, and this machine itself."""

import contextlib
import ctypes
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

from testbed.cluster.command import run
from testbed.process import free_ports

MOST_HOSTS = 40
"""The number of hosts of a network. Each host has the hardware addresses of all hosts from the start."""
_SEGMENTS = 4
"""The TCP segments that a host hands to its link at once. Linux's default is 2, which needs more CPU time.

With 8, 16 hosts that send to each other use 93 to 94 % of their links, with 4 they use 96 %. The shaper counts the
headers of each segment.
"""
_AT_ONCE = Path("/proc/sys/net/ipv4/tcp_min_tso_segs")
_IN_BURSTS = Path("/sys/module/sch_htb/parameters/htb_hysteresis")
"""With 1, a shaper sends a burst after each timer, not one packet. So the shapers need a third of the CPU time."""
_CONGESTION = Path("/proc/sys/net/ipv4/tcp_congestion_control")
_ALLOWED = Path("/proc/sys/net/ipv4/tcp_allowed_congestion_control")
_CUBIC = "cubic"
"""The congestion control of all hosts: the default of Linux, which most nodes have.

A machine with BBR needs a fifth more CPU time on these links, because BBR has a timer for each connection.
"""
_BURST = 16
"""KiB that a link may send at once: 2.6 ms at 50 Mbit/s."""
_QUEUE = 0.05
"""Seconds that a packet waits for its link at most, if there is no burst."""
_CLONE_NEWNET = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)


class Place(Protocol):
    """Where a process runs: a host of a network, or this machine."""

    @property
    def address(self) -> str:
        """The IP address at which its processes listen."""

    def command(self, *arguments: str) -> list[str]:
        """The command line that runs the command at this place, in the same process (``exec``)."""

    def port(self, usual: int) -> int:
        """A free port: the usual port, if the place has one process of each kind."""

    def entered(self) -> contextlib.AbstractContextManager[None]:
        """Sockets that this thread opens in the block belong to the place."""


@dataclass(frozen=True)
class Host:
    """A network namespace with one link to the switch."""

    namespace: str
    address: str

    def command(self, *arguments: str) -> list[str]:
        return ["nsenter", f"--net=/run/netns/{self.namespace}", *arguments]

    def port(self, usual: int) -> int:
        return usual

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        with Path("/proc/thread-self/ns/net").open() as own, Path("/run/netns", self.namespace).open() as other:
            _set_namespace(other.fileno())
            try:
                yield
            finally:
                _set_namespace(own.fileno())


class Loopback:
    """This machine. All processes have one address."""

    address = "127.0.0.1"

    def command(self, *arguments: str) -> list[str]:
        return list(arguments)

    def port(self, usual: int) -> int:
        return free_ports(1)[0]

    def entered(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()


class Network:
    """The switch and its hosts. They are removed at the end of the context."""

    def __init__(self) -> None:
        self._prefix = f"pantala-bench-{os.getpid()}"
        self._switch = f"{self._prefix}-switch"
        self._namespaces: list[str] = []
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            stack.enter_context(_machine_setting(_IN_BURSTS, "1"))
            stack.enter_context(_machine_setting(_ALLOWED, f"{_ALLOWED.read_text().strip()} {_CUBIC}"))
            stack.callback(self._delete)
            self._add(self._switch)
            _in(self._switch, "link add switch type bridge", "link set switch up")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def host(self, name: str, megabits: int) -> Host:
        """Add a host with a link of ``megabits`` per second in each direction."""
        number = len(self._namespaces)
        host = Host(f"{self._prefix}-{name}", _address(number))
        self._add(host.namespace)
        link = f"link{number}"
        _in(
            self._switch,
            f"link add {link} type veth peer name eth0 address {_hardware(number)} netns {host.namespace}",
            f"link set {link} master switch up",
        )
        _in(
            host.namespace,
            f"address add {host.address}/24 dev eth0",
            "link set eth0 up",
            *(_neighbour(other) for other in range(1, MOST_HOSTS + 1) if other != number),
        )
        with host.entered():
            _AT_ONCE.write_text(f"{_SEGMENTS}\n")
            with contextlib.suppress(OSError):  # a kernel without this congestion control keeps its own
                _CONGESTION.write_text(f"{_CUBIC}\n")
        _shape(host.namespace, "eth0", megabits)
        _shape(self._switch, link, megabits)
        return host

    def _delete(self) -> None:
        for namespace in reversed(self._namespaces):
            run("ip", "netns", "delete", namespace, check=False)

    def _add(self, namespace: str) -> None:
        if len(self._namespaces) > MOST_HOSTS:
            raise ValueError(f"A network has at most {MOST_HOSTS} hosts.")
        self._namespaces.append(namespace)
        run("ip", "netns", "add", namespace)
        _in(namespace, "link set lo up")


def _address(number: int) -> str:
    return f"10.99.0.{number}"


def _hardware(number: int) -> str:
    return f"02:00:0a:63:00:{number:02x}"


def _neighbour(number: int) -> str:
    """A permanent entry, because the kernel allows only 1024 other entries, which is enough for 32 hosts."""
    return f"neighbour add {_address(number)} lladdr {_hardware(number)} dev eth0 nud permanent"


def _in(namespace: str, *commands: str) -> None:
    run("ip", "-netns", namespace, "-batch", "-", text="\n".join(commands))


def _shape(namespace: str, device: str, megabits: int) -> None:
    """Limit a link by a token bucket with a short queue, like a real line."""
    queue = int(_QUEUE * megabits * 1e6 / 8) + 2 * _BURST * 1024
    rate = f"rate {megabits}mbit burst {_BURST}kb cburst {_BURST}kb quantum 60000"
    commands = (
        f"qdisc add dev {device} root handle 1: htb default 1",
        f"class add dev {device} parent 1: classid 1:1 htb {rate}",
        f"qdisc add dev {device} parent 1:1 bfifo limit {queue}",
    )
    run("tc", "-netns", namespace, "-batch", "-", text="\n".join(commands))


@contextlib.contextmanager
def _machine_setting(path: Path, value: str) -> Iterator[None]:
    """Give a kernel setting another value in the block. Without rights to do so, the setting stays."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            before = path.read_text()
            path.write_text(value)
            stack.callback(path.write_text, before)
        yield


def _set_namespace(descriptor: int) -> None:
    if _LIBC.setns(descriptor, _CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
