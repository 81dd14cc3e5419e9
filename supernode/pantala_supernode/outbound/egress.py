"""Allows connections to public addresses, and to addresses that the administrator allows, in every spelling."""

import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from pantala_protocol.rules.sources import Network
from pantala_protocol.statement import SourceRule
from pantala_supernode.errors import SourceDeniedError
from pantala_supernode.outbound.policies import SourcePolicies

Address = IPv4Address | IPv6Address

NEVER: tuple[Network, ...] = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",  # this host, unspecified
        "169.254.0.0/16",  # link-local, most clouds' metadata
        "100.100.100.200/32",  # metadata of Alibaba Cloud
        "168.63.129.16/32",  # wire server of Azure
        "192.0.0.192/32",  # metadata of Oracle Cloud
        "224.0.0.0/4",  # multicast
        "255.255.255.255/32",  # broadcast
        "::/128",  # unspecified
        "fe80::/10",  # link-local
        "fd00:42::42/128",  # metadata of Scaleway
        "fd00:ec2::/32",  # metadata of AWS
        "fd20:ce::254/128",  # metadata of Google Cloud
        "ff00::/8",  # multicast
    )
)
"""Networks in which an origin is never allowed. No policy can allow them."""

_NOT_PUBLIC: tuple[Network, ...] = tuple(
    ip_network(text)
    for text in (
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # shared by the customers of a provider
        "127.0.0.0/8",  # loopback
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # relays of 6to4
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "240.0.0.0/4",  # reserved
        "2001::/23",  # protocol assignments, Teredo
        "2001:db8::/32",  # documentation
        "3fff::/20",  # documentation
    )
)
"""Networks that are not public. A policy may allow them."""
_PUBLIC_V6 = tuple(map(ip_network, ("2000::/3", "64:ff9b::/96", "::ffff:0:0/96")))
"""No other IPv6 address is public. In the second and third network, the embedded IPv4 address decides."""
ANYWHERE = SourceRule("", networks=("0.0.0.0/0", "::/0"))
"""Allows all addresses except :data:`NEVER`."""

_METADATA_NAMES = frozenset(
    [
        "metadata",
        "metadata.google.internal",
        "metadata.goog",
        "metadata.azure.internal",
        "instance-data",
        "instance-data.ec2.internal",
        "metadata.tencentyun.com",
        "metadata.packet.net",
        "metadata.platformequinix.com",
    ]
)
"""Names of the clouds' metadata servers. A proxy may resolve them even if the supernode's name server does not."""

_NAT64 = ip_network("64:ff9b::/96")
_NAT64_LOCAL = ip_network("64:ff9b:1::/48")
_TRANSLATED = ip_network("::ffff:0:0:0/96")
"""Stateless translation (RFC 7915)."""
_V4_COMPATIBLE = ip_network("::/96")
_ISATAP = frozenset({0x00005EFE, 0x02005EFE})


class EgressPolicy:
    """Allows public addresses, and addresses that ``policies`` allow. ``exceptions`` are always allowed.

    :data:`NEVER` and the networks ``denied`` stay forbidden, even if a policy allows them.
    """

    def __init__(
        self,
        denied: Iterable[Network] = (),
        exceptions: Iterable[Address] = (),
        policies: SourcePolicies | None = None,
    ) -> None:
        self._denied = (*NEVER, *denied)
        self._exceptions = frozenset(exceptions)
        self._policies = policies or SourcePolicies()

    def check(self, address: str, host: str = "", port: int = 0) -> None:
        """Raise :class:`SourceDeniedError` if a connection for ``host`` and ``port`` may not lead to ``address``.

        ``address`` is an IP literal. If it embeds other addresses, all of them must be allowed.
        """
        try:
            spelled = ip_address(address.partition("%")[0])
        except ValueError:
            raise SourceDeniedError.with_action(f"The origin's address {address[:60]!r} is not an IP address") from None
        if spelled in self._exceptions:
            return
        meanings = tuple(_meanings(spelled))
        for network in self._denied:
            if any(meant in network for meant in meanings):
                raise SourceDeniedError.with_action(
                    f"The origin's address {address} is in {network}. No SourcePolicy can allow this network"
                )
        for meant in meanings:
            if not is_public(meant) and not any(self._policies.covering(host, port, meant)):
                raise SourceDeniedError.with_action(
                    f"The origin's address {address} is not public, and no SourcePolicy allows it"
                )

    def size_limit(self, address: str, host: str, port: int) -> int | None:
        """The largest body that the policies allow from a source: the greatest of their limits. ``None``: any size.

        If ``address`` embeds other addresses, the smallest limit of all of them counts.
        """
        try:
            meanings: Iterable[Address | None] = _meanings(ip_address(address.partition("%")[0]))
        except ValueError:
            meanings = (None,)
        limits = (self._limit(host, port, meant) for meant in meanings)
        return min((each for each in limits if each is not None), default=None)

    def _limit(self, host: str, port: int, address: Address | None) -> int | None:
        limits = [rule.max_bytes for rule in self._policies.covering(host, port, address)]
        return max((each for each in limits if each is not None), default=None) if None not in limits else None

    def check_name(self, host: str) -> None:
        """Raise :class:`SourceDeniedError` if a host name means a cloud's metadata server, whatever its address is."""
        if host.rstrip(".") in _METADATA_NAMES:
            raise SourceDeniedError.with_action(f"{host} is a cloud's metadata server, which is always forbidden")


@dataclass(frozen=True, slots=True)
class Destination:
    """Where the sockets of one request may lead."""

    policy: EgressPolicy
    host: str
    port: int
    behind: "Destination | None" = None
    """The target, if the sockets lead to a proxy."""

    def check(self, address: str) -> None:
        self.policy.check(address, self.host, self.port)

    def size_limit(self, address: str) -> int | None:
        """The largest body that is allowed from an address. ``None``: any size."""
        if self.behind is not None:
            return self.behind.size_limit("")  # only the proxy knows the target's address
        return self.policy.size_limit(address, self.host, self.port)


def literal(host: str) -> str | None:
    """The address if a URL's host is an address, also in hex, in octal or as one number. ``None``: the host is a name.

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


def is_public(address: Address) -> bool:
    """True if the address is on the public internet. Addresses that are embedded in it are not checked."""
    if isinstance(address, IPv6Address) and not any(address in network for network in _PUBLIC_V6):
        return False
    return not any(address in network for network in _NOT_PUBLIC)


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
    if address in _TRANSLATED:
        yield IPv4Address(number & 0xFFFFFFFF)
    if address in _NAT64_LOCAL:  # RFC 6052, 2.2: around eight bits that are zero, for each length of the prefix
        yield IPv4Address((number >> 64 & 0xFFFF) << 16 | number >> 40 & 0xFFFF)
        yield IPv4Address((number >> 64 & 0xFF) << 24 | number >> 32 & 0xFFFFFF)
        yield IPv4Address(number >> 24 & 0xFFFFFFFF)
        yield IPv4Address(number & 0xFFFFFFFF)
    if number >> 32 & 0xFFFFFFFF in _ISATAP:
        yield IPv4Address(number & 0xFFFFFFFF)
