"""Rules for the sources that an administrator allows: patterns of hosts, and networks."""

import re
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final

Network = IPv4Network | IPv6Network

MAX_HOST: Final = 253
"""The most characters of a host name, which is the limit of DNS."""
HOST: Final = r"(\*\.)?[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*\.?"
"""A host name in lower case. ``*.`` at its start means all names below it."""
ADDRESS: Final = r"(^|[.])([0-9]+|0x[0-9a-f]*)[.]?$"
"""Matches a name that some program reads as an address."""
_HOST = re.compile(HOST)
_ADDRESS = re.compile(ADDRESS)


def is_host(text: str) -> bool:
    """True if the text is a host name or a pattern of host names, and not an address in any spelling."""
    return len(text) <= MAX_HOST and _HOST.fullmatch(text) is not None and _ADDRESS.search(text) is None


def matches(pattern: str, host: str) -> bool:
    """True if a pattern matches a host name. ``*.corp`` matches ``files.corp``, but not ``corp``."""
    pattern, host = pattern.lower().rstrip("."), host.lower().rstrip(".")
    return host.endswith(pattern[1:]) and len(host) >= len(pattern) if pattern.startswith("*.") else host == pattern


def network(text: str) -> Network:
    """The network that a text in CIDR notation names, or the network of one address.

    Raises :class:`ValueError` with the end of a sentence that begins with the text.
    """
    try:
        return ip_network(text.strip().strip("[]"))
    except ValueError:
        raise ValueError("is not a network in CIDR notation, such as 10.0.0.0/8") from None
