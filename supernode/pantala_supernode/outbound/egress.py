"""Forbids connections to certain IP addresses, however a URL or a host name expresses them."""

import socket
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from pantala_supernode.errors import SourceDeniedError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

NEVER: tuple[Network, ...] = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",  # this host, unspecified
        "169.254.0.0/16",  # link-local, most clouds' metadata
        "100.100.100.200/32",  # metadata of Alibaba Cloud
        "168.63.129.16/32",  # wire server of Azure
        "224.0.0.0/4",  # multicast
        "255.255.255.255/32",  # broadcast
        "::/128",  # unspecified
        "fe80::/10",  # link-local
        "fd00:ec2::/32",  # metadata of AWS
        "fd20:ce::254/128",  # metadata of Google Cloud
        "ff00::/8",  # multicast
    )
)
"""Networks in which an origin is never allowed. For loopback and private networks, the administrator decides."""

_METADATA_NAMES = frozenset(
    {"metadata", "metadata.google.internal", "instance-data", "instance-data.ec2.internal", "metadata.azure.internal"}
)
"""Names of the clouds' metadata servers. A proxy may resolve them even if our name server does not."""

_NAT64 = ip_network("64:ff9b::/96")
_NAT64_LOCAL = ip_network("64:ff9b:1::/48")
_V4_COMPATIBLE = ip_network("::/96")
_ISATAP = frozenset({0x00005EFE, 0x02005EFE})


class EgressPolicy:
    """Allows all addresses except :data:`NEVER` and the networks ``denied``. ``exceptions`` are allowed anyway."""

    def __init__(self, denied: Iterable[Network] = (), exceptions: Iterable[Address] = ()) -> None:
        self._denied = (*NEVER, *denied)
        self._exceptions = frozenset(exceptions)

    def check(self, address: str) -> None:
        """Raise :class:`SourceDeniedError` if ``address`` (an IP literal) or an address embedded in it is forbidden."""
        try:
            spelled = ip_address(address.partition("%")[0])
        except ValueError:
            raise SourceDeniedError.with_action(f"The origin's address {address[:60]!r} is not an IP address") from None
        if spelled in self._exceptions:
            return
        for meant in _meanings(spelled):
            for network in self._denied:
                if meant.version == network.version and meant in network:
                    raise SourceDeniedError.with_action(
                        f"The origin's address {address} is in the forbidden network {network}"
                    )

    def check_name(self, host: str) -> None:
        """Raise :class:`SourceDeniedError` if a host name means a cloud's metadata server, whatever its address is."""
        if host.rstrip(".") in _METADATA_NAMES:
            raise SourceDeniedError.with_action(f"{host} is a cloud's metadata server, which is always forbidden")


def literal(host: str) -> str | None:
    """The address if a URL's host is one, also in hex, in octal or as one number. ``None``: the host is a name.

    Raises :class:`SourceDeniedError` for a number that is not a valid address, because programs read it differently.
    """
    name = host.rstrip(".").lower()
    last = name.rpartition(".")[2]
    if ":" not in host and not last.isdigit() and not last.startswith("0x"):
        return None
    try:
        return str(ip_address(host.partition("%")[0])) if ":" in host else socket.inet_ntoa(socket.inet_aton(name))
    except (OSError, ValueError):
        raise SourceDeniedError.with_action(f"The URL's host {host[:60]!r} is not a valid IP address") from None


def _meanings(address: Address) -> Iterator[Address]:
    """``address``, and the IPv4 addresses to which NAT64 or a tunnel such as 6to4 would send it."""
    yield address
    if isinstance(address, IPv4Address):
        return
    number = int(address)
    if address.ipv4_mapped is not None:
        yield address.ipv4_mapped
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield from address.teredo
    if address in _NAT64 or (address in _V4_COMPATIBLE and number > 1):
        yield IPv4Address(number & 0xFFFFFFFF)
    if address in _NAT64_LOCAL:  # RFC 6052, 2.2: 16 bits, eight that are zero, 16 bits
        yield IPv4Address((number >> 64 & 0xFFFF) << 16 | number >> 40 & 0xFFFF)
        yield IPv4Address(number & 0xFFFFFFFF)
    if number >> 32 & 0xFFFFFFFF in _ISATAP:
        yield IPv4Address(number & 0xFFFFFFFF)
