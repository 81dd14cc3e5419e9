"""The link between a network namespace and the cluster's bridge."""

import ipaddress

from testbed.cluster import layout
from testbed.cluster.command import run

NO_DETECTION = ("nodad",) if layout.IPV6 else ()
"""Use an IPv6 address at once, without a search for a duplicate."""


def connect(namespace: str, device: str, address: str) -> None:
    """Give the namespace an ``eth0`` with this address. ``device`` is the machine's end.

    The address always has the same hardware address, because other hosts cache it for longer than a restart takes.
    """
    hardware = ":".join(f"{part:02x}" for part in (0x02, 0x50, *ipaddress.ip_address(address).packed[-4:]))
    run("ip", "link", "add", device, "type", "veth", "peer", "name", "eth0", "address", hardware, "netns", namespace)
    run("ip", "link", "set", device, "master", layout.BRIDGE, "up")
    run("ip", "-n", namespace, "address", "add", f"{address}/{layout.PREFIX_LENGTH}", "dev", "eth0", *NO_DETECTION)
    run("ip", "-n", namespace, "link", "set", "eth0", "up")
    run("ip", "-n", namespace, "link", "set", "lo", "up")
    run("ip", "-n", namespace, "route", "add", layout.EVERYWHERE, "via", layout.HOST)


def shape(namespace: str, device: str, rate: str) -> None:
    """Limit the link in both directions, e.g. ``200mbit``. Empty: no limit."""
    for tc, end in ((("tc",), device), (("tc", "-netns", namespace), "eth0")):
        if rate:
            run(*tc, "qdisc", "replace", "dev", end, "root", "tbf",
                "rate", rate, "burst", "256kb", "latency", "50ms")  # fmt: skip
        else:
            run(*tc, "qdisc", "delete", "dev", end, "root", check=False)
