"""The forward proxy of the administrator, and the hosts that are reached without it."""

from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network

from pantala_protocol.redaction import RedactedURL


@dataclass(frozen=True, slots=True)
class Proxy:
    """A forward proxy for origins and registries. Pantala's own processes never use it."""

    url: str
    """``http://host:port`` or ``https://host:port``, without credentials."""
    exceptions: tuple[str, ...] = ()
    """Hosts that are reached directly: a name, ``.suffix``, an address, a network in CIDR notation, or ``*``."""
    credentials: str | None = field(default=None, repr=False)
    """``user:password`` for the proxy's Basic authentication."""

    def __str__(self) -> str:
        return str(RedactedURL(self.url))

    def serves(self, host: str) -> bool:
        """True if requests for a host go through the proxy."""
        return not any(_matches(exception.strip().lower(), host.lower()) for exception in self.exceptions)


def _matches(exception: str, host: str) -> bool:
    """Read one entry of NO_PROXY as curl and Go do: a name also matches the names below it."""
    if exception == "*":
        return True
    try:
        return ip_address(host) in ip_network(exception, strict=False)
    except ValueError:
        name = exception.lstrip(".")
        return bool(name) and (host == name or host.endswith(f".{name}"))
