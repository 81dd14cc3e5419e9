"""Forbids connections to certain IP addresses, however a URL or a host name expresses them."""

import contextlib
import socket
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, TCPConnector, ThreadedResolver
from aiohttp.abc import AbstractResolver, ResolveResult

from pantala_protocol import __version__
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
"""Networks in which an origin is never allowed. The administrator decides about loopback and private ones."""

_NAT64 = ip_network("64:ff9b::/96")
_NAT64_LOCAL = ip_network("64:ff9b:1::/48")
_V4_COMPATIBLE = ip_network("::/96")
_ISATAP = frozenset({0x00005EFE, 0x02005EFE})


class EgressPolicy:
    """Allows all addresses except :data:`NEVER` and the networks ``denied``."""

    def __init__(self, denied: Iterable[Network] = ()) -> None:
        self._denied = (*NEVER, *denied)

    def check(self, address: str) -> None:
        """Raise :class:`SourceDeniedError` if ``address`` (an IP literal) or an address embedded in it is forbidden."""
        try:
            spelled = ip_address(address.partition("%")[0])
        except ValueError:
            raise SourceDeniedError(f"The origin's address {address[:60]!r} is not an IP address.") from None
        for meant in _meanings(spelled):
            for network in self._denied:
                if meant.version == network.version and meant in network:
                    raise SourceDeniedError.with_action(
                        f"The origin's address {address} is in the forbidden network {network}"
                    )

    def check_literal(self, host: str) -> None:
        """Check a URL's host if it is an IP literal, because the resolver does not see it. Raises as :meth:`check`."""
        with contextlib.suppress(ValueError):
            ip_address(host.partition("%")[0])
            self.check(host)


class CheckedResolver(AbstractResolver):
    """Resolves a host name and checks its addresses. The connection uses only those, without another lookup."""

    def __init__(self, resolver: AbstractResolver, policy: EgressPolicy) -> None:
        self._resolver = resolver
        self._policy = policy

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Resolve ``host``. Raises :class:`SourceDeniedError` if any of its addresses is forbidden."""
        found = await self._resolver.resolve(host, port, family)
        for result in found:
            self._policy.check(result["host"])
        return found

    async def close(self) -> None:
        await self._resolver.close()


def open_session(
    policy: EgressPolicy,
    timeout: ClientTimeout,
    *,
    resolver: AbstractResolver | None = None,
    read_bufsize: int = 64 * 1024,
    **connector: Any,
) -> ClientSession:
    """An HTTP client without cookies and proxies. ``connector``: arguments for :class:`aiohttp.TCPConnector`."""
    checked = CheckedResolver(resolver or ThreadedResolver(), policy)
    return ClientSession(
        connector=TCPConnector(resolver=checked, use_dns_cache=False, **connector),  # a cache would ignore DNS TTLs
        timeout=timeout,
        auto_decompress=False,
        cookie_jar=DummyCookieJar(),
        headers={"User-Agent": f"pantala/{__version__}"},
        read_bufsize=read_bufsize,
        trust_env=False,
    )


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
