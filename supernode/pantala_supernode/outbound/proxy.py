"""The forward proxy of the administrator, and the hosts that are reached without it."""

from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path
from urllib.parse import urlsplit

from pantala_protocol.redaction import RedactedURL
from pantala_supernode.outbound.errors import Fault, OutboundError


@dataclass(frozen=True, slots=True)
class Proxy:
    """A forward proxy for origins and registries. Pantala's own processes never use it."""

    url: str
    """``http://host:port`` or ``https://host:port``. Only a variable of the environment may have credentials in it."""
    exceptions: tuple[str, ...] = ()
    """Hosts that are reached directly: a name, ``.suffix``, an address, a network in CIDR notation, or ``*``."""
    credentials: Path | None = None
    """A file with ``user:password`` for the proxy's Basic authentication. A changed file counts from then on."""

    def __str__(self) -> str:
        return str(RedactedURL(self.url))

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    def serves(self, host: str) -> bool:
        """True if requests for a host go through the proxy."""
        return not any(_matches(exception.strip().lower(), host.lower()) for exception in self.exceptions)

    def login(self) -> tuple[bytes, bytes] | None:
        """User and password: any bytes, except a line break at the end. ``None`` without a file.

        Raises :class:`OSError`, and :class:`ValueError` if the file has another form.
        """
        if self.credentials is None:
            return None
        user, colon, password = self.credentials.read_bytes().rstrip(b"\r\n").partition(b":")
        if not colon or b"\0" in user + password:
            raise ValueError(f"needs user:password in {self.credentials}. Write it there on one line.")
        return user, password


def refusal(status: int) -> OutboundError:
    """The error for a status with which a proxy does not lead on."""
    hint = "check --proxy-credentials" if status == 407 else "check that the proxy allows this host and reaches it"
    return OutboundError(Fault.PROXY, f"it answered {status}; {hint}")


def _matches(exception: str, host: str) -> bool:
    """Read one entry of NO_PROXY as curl and Go do: a name also matches the names below it."""
    if exception == "*":
        return True
    try:
        return ip_address(host) in ip_network(exception.strip("[]"), strict=False)
    except ValueError:
        name = exception.removeprefix("*").lstrip(".")
        return bool(name) and (host == name or host.endswith(f".{name}"))
