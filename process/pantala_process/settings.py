"""Settings of a process. Each field of a dataclass declares its flag, environment variable, default and help.

The flag ``--foo-bar`` overrides the variable ``PANTALA_FOO_BAR``, which overrides the default. Empty means not given.
"""

import argparse
import dataclasses
import ipaddress
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TypeVar
from urllib.parse import urlsplit

from pantala_protocol import __version__
from pantala_protocol.redaction import RedactedURL
from pantala_protocol.rules import quantity

T = TypeVar("T")

_BRACKETED = re.compile(r"\[[^\[\]]+\]")
_HOST = re.compile(r"[A-Za-z0-9_.-]{1,253}")
_AUTHORITY = re.compile(r"(?:\[([0-9a-f:]+)\]|([^\[\]:]+))(?::[0-9]+)?")
_SIZE = re.compile(r"[0-9]{1,15}([KMGT]i)?")
_RATE = re.compile(r"[0-9]{1,15}([kMG]|[KMG]i)?")


class SettingsError(ValueError):
    """The process cannot start with these settings."""


def is_loopback(host: str) -> bool:
    """True if a host name or an address always means this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def names_loopback(text: str) -> bool:
    """True if ``host`` or ``host:port`` always means this machine. An IPv6 address has brackets."""
    match = _AUTHORITY.fullmatch(text.lower())
    return match is not None and is_loopback(match[1] or match[2])


class ListenAddress(NamedTuple):
    """An address to listen at."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """True if only this machine reaches the address."""
        return is_loopback(self.host)


class Flag(NamedTuple):
    """The declaration of one flag. ``read`` raises :class:`ValueError`. A switch has no ``metavar``."""

    read: Callable[[str], Any]
    metavar: str | None
    help: str
    required: bool = False

    @property
    def meaning(self) -> str:
        """The help, and whether the flag is required."""
        return f"{self.help} (required)" if self.required else self.help


def flag(read: Callable[[str], T], metavar: str, text: str, *, default: Any = dataclasses.MISSING) -> Any:
    """Declare a dataclass field for a flag with a value. Without ``default`` the setting is required."""
    return dataclasses.field(
        default=default, metadata={"flag": Flag(read, metavar, text, default is dataclasses.MISSING)}
    )


def switch(text: str) -> Any:
    """Declare a dataclass field for a flag without a value. The field is False unless the flag is given."""
    return dataclasses.field(default=False, metadata={"flag": Flag(is_on, None, text)})


def log_level_flag() -> Any:
    """Declare the dataclass field of ``--log-level``, which each process has."""
    text = "the lowest level of lines in the log: debug, info, warning or error (info)"
    return flag(log_level, "LEVEL", text, default=logging.INFO)


def account_flag(process: str, whose: str) -> Any:
    """Declare the dataclass field for a process's ServiceAccount. The default is the chart's in ``pantala``."""
    default = f"system:serviceaccount:pantala:pantala-{process}"
    return flag(str, "ACCOUNT", f"service account of {whose} ({default})", default=default)


def flags(settings: type[Any]) -> dict[str, Flag]:
    """The flags that the fields of a dataclass declare, by field."""
    return {field.name: field.metadata["flag"] for field in dataclasses.fields(settings) if "flag" in field.metadata}


def parse(
    known: Mapping[str, Flag],
    arguments: Sequence[str],
    environment: Mapping[str, str],
    *,
    program: str,
    description: str,
) -> dict[str, Any]:
    """Read flags and variables, without defaults. Raises :class:`SettingsError`; ``--help``, ``--version`` exit."""
    epilog = "Each flag has an environment variable: for --log-level, it is PANTALA_LOG_LEVEL."
    parser = _Parser(prog=program, description=description, epilog=epilog, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    for name, each in known.items():
        option = "--" + name.replace("_", "-")
        if each.metavar is None:
            parser.add_argument(option, action="store_const", const="yes", help=each.meaning)
        else:
            parser.add_argument(option, metavar=each.metavar, help=each.meaning)
    given = vars(parser.parse_args(arguments))
    values: dict[str, Any] = {}
    for name, each in known.items():
        variable, option = "PANTALA_" + name.upper(), "--" + name.replace("_", "-")
        source, text = option, given[name]
        if text is None:
            source, text = f"{option} (from {variable})", environment.get(variable)
        if text:
            try:
                values[name] = each.read(text)
            except ValueError as error:
                shown = RedactedURL(text) if "://" in text else text
                raise SettingsError(f"{source} {shown!r} {error}") from error
        elif each.required:
            raise SettingsError(f"{option} is missing. Give it, or set {variable}: {each.help}.")
    return values


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise SettingsError(f"{message}. See {self.prog} --help.")


def is_on(text: str) -> bool:
    """Whether the text of an environment variable turns a switch on."""
    return text.lower() in {"1", "true", "yes"}


# Each of these functions reads one kind of value. In the message, the text of its ValueError follows the value.


def log_level(text: str) -> int:
    """Read the name of a level of logs."""
    levels = logging.getLevelNamesMapping()
    if text not in ("debug", "info", "warning", "error"):
        raise ValueError("is not a log level. Give debug, info, warning or error.")
    return levels[text.upper()]


def address(text: str) -> ListenAddress:
    """Read ``HOST:PORT``. An IPv6 host is in brackets. An empty host means all addresses."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or (":" in host and not _BRACKETED.fullmatch(host)):
        raise ValueError("is not a valid HOST:PORT. Give an address like 0.0.0.0:8080 or [::]:8080.")
    if int(port[:6]) > 65535:
        raise ValueError("has a port above 65535. Give an address like 0.0.0.0:8080.")
    return ListenAddress(host.removeprefix("[").removesuffix("]"), int(port))


def host(text: str) -> str:
    """Check a host name or an IP address. An IPv6 address has no brackets."""
    try:
        if _HOST.fullmatch(text) is None:
            ipaddress.IPv6Address(text)
    except ValueError:
        raise ValueError("is not a host. Give a host name or an IP address, without a scheme and a port.") from None
    return text


def http_url(text: str) -> str:
    """Check an http: or https: URL, and return it without a slash at its end."""
    try:
        parts = urlsplit(text)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        good = good and not parts.query and not parts.fragment
    except ValueError:
        good = False
    if not good:
        raise ValueError("is not a valid http or https URL. Give a URL like http://host.example:8002.")
    return text.rstrip("/")


def unix_socket(text: str) -> Path:
    """Read the path in ``unix:/PATH`` or ``unix:///PATH``."""
    scheme, _, path = text.partition(":")
    path = "/" + path.lstrip("/") if path.startswith("/") else ""
    if scheme != "unix" or len(path) < 2 or len(path.encode()) > 107:
        raise ValueError("is not the address of a unix socket. Give an address like unix:/run/pantala/runtime.sock.")
    return Path(path)


def seconds(text: str) -> float:
    """Read a number of seconds above 0."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 < value < float("inf"):
        raise ValueError("is not a number of seconds above 0. Give seconds without a unit, like 30.")
    return value


def whole(low: int, high: int, what: str) -> Callable[[str], int]:
    """A function that reads a whole number from ``low`` to ``high``. ``what`` is the unit in the error."""

    def read(text: str) -> int:
        if not text.isascii() or not text.isdigit() or len(text) > 9 or not low <= int(text) <= high:
            raise ValueError(f"is not a whole number of {what} from {low} to {high}.")
        return int(text)

    return read


def size(text: str) -> int:
    """Read a number of bytes, as ``512``, or with a binary unit, as ``64Mi``."""
    if _SIZE.fullmatch(text) is None:
        raise ValueError("is not a size. Give bytes, or a number with Ki, Mi, Gi or Ti, like 10Gi.")
    return quantity.parse(text)


def rate(text: str) -> float:
    """Read a number of bytes a second above 0, as ``125M`` or ``64Mi``."""
    if _RATE.fullmatch(text) is None or (found := quantity.parse(text)) == 0:
        raise ValueError("is not a rate. Give bytes a second like 500k, 50M or 1Gi.")
    return float(found)


def yes_or_no(text: str) -> bool:
    if text not in {"yes", "no"}:
        raise ValueError("is not yes or no. Give yes or no.")
    return text == "yes"
