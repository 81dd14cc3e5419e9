"""The forward proxy of the administrator, and the hosts that are reached without it."""

import re
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from pathlib import Path
from urllib.parse import urlsplit

from pantala_protocol.redaction import RedactedURL
from pantala_supernode.outbound.errors import Fault, OutboundError

_PORT = re.compile(r"(\[[^]]*\]|[^:]+):([0-9]{1,5})")
"""An exception for one port. A plain IPv6 address does not match."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """A forward proxy for origins and registries. Pantala's own processes never use it."""

    url: str = field(repr=False)
    """``http://host:port`` or ``https://host:port``. Only in an environment variable, the URL may have credentials."""
    exceptions: tuple[str, ...] = ()
    """Hosts that are reached directly: a name, ``.suffix``, an address, a network in CIDR notation, or ``*``.

    A port may follow, as in ``files.corp:8443``. Then other ports are reached through the proxy.
    """
    credentials: Path | None = None
    """A file with ``user:password`` for the proxy's Basic authentication. Each request reads it again."""

    def __str__(self) -> str:
        return str(RedactedURL(self.url))

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    def serves(self, host: str, port: int) -> bool:
        """True if requests for a host and port go through the proxy."""
        return not any(_matches(exception.strip().lower(), host.lower(), port) for exception in self.exceptions)

    def login(self) -> tuple[bytes, bytes] | None:
        """The user and password from the file, without line breaks at its end. ``None`` if no file is configured.

        Raises :class:`OSError` if the file cannot be read, and :class:`ValueError` if it has another form.
        """
        if self.credentials is None:
            return None
        user, colon, password = self.credentials.read_bytes().rstrip(b"\r\n").partition(b":")
        if not colon or b"\0" in user + password:
            raise ValueError(f"needs user:password in {self.credentials}. Write both into the file, on one line.")
        return user, password


def refusal(status: int) -> OutboundError:
    """The error for a proxy's own answer: the proxy rejects the request, or cannot reach the target."""
    wrong = (
        "--proxy-credentials are missing or wrong"
        if status == 407
        else "it does not allow this host or cannot reach it"
    )
    return OutboundError(Fault.PROXY, f"it answered {status}: {wrong}")


def _matches(exception: str, host: str, port: int) -> bool:
    """True if an entry of NO_PROXY matches. As in curl and Go, a name also matches its subdomains."""
    match = _PORT.fullmatch(exception)
    if match is not None:
        return int(match[2]) == port and _matches(match[1], host, port)
    if exception == "*":
        return True
    try:
        return ip_address(host) in ip_network(exception.strip("[]"), strict=False)
    except ValueError:
        name = exception.removeprefix("*").lstrip(".")
        return bool(name) and (host == name or host.endswith(f".{name}"))
