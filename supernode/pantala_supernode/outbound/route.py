"""How a request reaches its target: directly or through a proxy, and only if the egress rules allow it."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future

import pycurl

from pantala_supernode.outbound.egress import ANYWHERE, Destination, EgressPolicy, literal
from pantala_supernode.outbound.errors import Fault, OutboundError
from pantala_supernode.outbound.names import Names
from pantala_supernode.outbound.policies import SourcePolicies
from pantala_supernode.outbound.proxy import Proxy
from pantala_supernode.outbound.target import RequestTarget

_SUPPRESS_CONNECT_HEADERS = 265
"""CURLOPT_SUPPRESS_CONNECT_HEADERS, which pycurl does not name."""
_PROXIED_LOOKUP = 2.0
"""The most seconds for a lookup behind a proxy. Name servers there often know only internal names, or never answer."""


class Route:
    """Chooses the way to a target. It resolves a name once, and a direct connection uses only the checked addresses."""

    def __init__(self, egress: EgressPolicy, proxy: Proxy | None, names: Names) -> None:
        self._egress = egress
        # The administrator chose the proxy. It may be in a network that tasks may not read.
        self._proxy_egress = EgressPolicy(policies=SourcePolicies([ANYWHERE]))
        self._proxy = proxy
        self._names = names

    def apply(
        self, handle: pycurl.Curl, target: RequestTarget, *, seconds: float, cancelled: Future[None]
    ) -> tuple[Destination, Proxy | None]:
        """Set on ``handle`` how one request reaches ``target``. Returns where its sockets lead, and the proxy, if any.

        ``seconds`` is the limit for a lookup, and ``cancelled`` ends its wait. Raises :class:`OutboundError`, or
        :class:`pantala_supernode.errors.SourceDeniedError` if one address of the target is forbidden, even if a proxy
        would connect to it.
        """
        _, host, port = target.origin
        proxy = self._proxy if self._proxy is not None and self._proxy.serves(host, port) else None
        try:
            limit = seconds if proxy is None else min(seconds, _PROXIED_LOOKUP)
            addresses = self._checked(host, port, limit, cancelled)
        except OutboundError:
            if proxy is None:
                raise
            addresses = []  # only the proxy can resolve the name
        if proxy is not None:
            _apply_proxy(handle, proxy)
            target_behind = Destination(self._egress, host, port)
            return Destination(self._proxy_egress, proxy.host, 0, target_behind), proxy
        handle.setopt(pycurl.PROXY, "")  # an empty value also ignores the environment
        if addresses:
            listed = ",".join(f"[{each}]" if ":" in each else each for each in addresses)
            handle.setopt(pycurl.RESOLVE, [f"{host}:{port}:{listed}"])
        return Destination(self._egress, host, port), None

    def _checked(self, host: str, port: int, seconds: float, cancelled: Future[None]) -> Sequence[str]:
        """The allowed addresses of a host name. Empty if ``host`` is an allowed address, which needs no lookup."""
        address = literal(host)
        if address is not None:
            self._egress.check(address, host, port)
            return []
        self._egress.check_name(host)
        addresses = self._names.addresses(host, port, seconds=seconds, cancelled=cancelled)
        for each in addresses:
            self._egress.check(each, host, port)
        return addresses


def _apply_proxy(handle: pycurl.Curl, proxy: Proxy) -> None:
    handle.setopt(pycurl.PROXY, proxy.url)
    handle.setopt(pycurl.NOPROXY, "")
    handle.setopt(_SUPPRESS_CONNECT_HEADERS, 1)
    handle.setopt(pycurl.PROXYAUTH, pycurl.HTTPAUTH_BASIC)
    try:
        login = proxy.login()
    except (OSError, ValueError):
        raise OutboundError(Fault.PROXY, f"{proxy.credentials} is not a file with user:password") from None
    if login is not None:
        handle.setopt(pycurl.PROXYUSERNAME, login[0])
        handle.setopt(pycurl.PROXYPASSWORD, login[1])
