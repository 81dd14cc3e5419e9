"""What a peer is told when it starts: flags, or the environment variables that mirror them."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, NoReturn
from urllib.parse import urlsplit

from pantala_peer.errors import SettingsError
from pantala_peer.mirror.deadlines import Deadlines
from pantala_protocol import __version__


class Address(NamedTuple):
    """Where to listen."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Settings:
    """One peer's settings."""

    supernode: str
    """Base URL of the supernode's API."""
    listen: Address
    """Where pieces are served to other peers. Port 0: any free one."""
    root: Path
    """The one directory that is written, on one filesystem: ``cache`` holds pieces, ``files`` the published files."""
    name: str
    """The node's name; the token must say the same."""
    zone: str = ""
    """The node's zone; pieces are taken from the same one first. Empty: none."""
    token_file: Path | None = None
    """A file with the bearer token, read for each exchange because the kubelet rotates it. None: no token is shown."""
    health_listen: Address | None = None
    """Where ``/healthz`` and ``/readyz`` are. None: nowhere."""
    mirror_listen: Address | None = None
    """Where containerd finds the registry mirror: a loopback address. None: nowhere, there is no mirror."""
    mirror_token_file: Path | None = None
    """A file with the token that containerd's ``hosts.toml`` has it show. None: anybody on the node is served."""
    mirror_resolve: bool = False
    """The mirror resolves tags, too. Else the registry does, and so authorises each pull by tag itself."""
    mirror_deadlines: Deadlines = field(default_factory=Deadlines)
    """How long the mirror lets containerd wait."""
    mirror_address: str = ""
    """Base URL at which containerd reaches the mirror, as its ``hosts.toml`` has it. Empty: 127.0.0.1, and the
    port at which the mirror listens."""
    runtime_socket: Path | None = None
    """The runtime helper's socket. None: there is no helper, and no image can be pulled by order."""
    blob_cache: int | None = None
    """Bytes that images' blobs may take on the disk. None: 10 GiB, or a tenth of the filesystem where that is less."""
    downloads: int = 4
    """Pieces fetched at once. Fewer leave a link idle between pieces, more pin pieces that others could take."""
    uploads: int = 4
    """Pieces sent at once; others wait a little, first come, first served. As many as each other peer downloads."""
    connect_timeout: float = 3.0
    """Seconds to connect to a provider: a lost SYN is repeated after 1 s and 3 s."""
    head_timeout: float = 5.0
    """Seconds to an answer's head; a provider lets a request wait for a slot for 2 s. A peer gets 3 s, at most."""
    stall_timeout: float = 2.0
    """Seconds without a byte in mid-piece, or four usual piece times where that is longer."""
    slow_timeout: float = 5.0
    """Seconds that a provider may send less than 32 KiB/s, or eight usual piece times where that is longer; 15 where
    nothing is usual yet."""
    exchange_timeout: float = 20.0
    """Seconds to an exchange's answer; the supernode holds it for up to 10 s."""
    recheck_interval: float = 30.0
    """Seconds between two looks at the published files: one ``stat`` each."""
    grace: float = 22.0
    """Seconds that uploads get to end after SIGTERM, beside 3 s to take leave: 25 s in all."""


def parse(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """Read flags and, where they are not given, the environment: ``--foo-bar`` mirrors ``PANTALA_FOO_BAR``.

    Raises :class:`SettingsError` with one line that says what to do; ``--help`` and ``--version`` raise SystemExit.
    """
    given = vars(_parser().parse_args(arguments))
    values: dict[str, str] = {}
    for name, flag in given.items():
        value = flag if flag is not None else environment.get("PANTALA_" + name.upper(), "")
        if value:
            values[name] = value
    for name in ("supernode", "listen", "root", "name"):
        if name not in values:
            raise SettingsError(f"--{name} is missing: give it, or set PANTALA_{name.upper()}")
    token, health = values.get("token_file"), values.get("health_listen")
    mirror, mirror_token = values.get("mirror_listen"), values.get("mirror_token_file")
    return Settings(
        supernode=_url(values["supernode"]),
        listen=_address("listen", values["listen"]),
        root=Path(values["root"]).absolute(),
        name=values["name"],
        zone=values.get("zone", ""),
        token_file=Path(token) if token else None,
        health_listen=_address("health-listen", health) if health else None,
        mirror_listen=_address("mirror-listen", mirror) if mirror else None,
        mirror_token_file=Path(mirror_token) if mirror_token else None,
        mirror_resolve=_choice("mirror-resolve", values.get("mirror_resolve", "no")),
        mirror_address=_http("mirror-address", address) if (address := values.get("mirror_address")) else "",
        runtime_socket=_socket("runtime-socket", values.get("runtime_socket", "unix:/run/pantala/runtime.sock")),
        blob_cache=_size("blob-cache", values["blob_cache"]) if "blob_cache" in values else None,
        downloads=_count("downloads", values.get("downloads", "4")),
        uploads=_count("uploads", values.get("uploads", "4")),
    )


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise SettingsError(f"{message}; see {self.prog} --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="pantala-peer",
        description="Takes files from a Pantala supernode and other peers, and gives.",
        epilog="pantala-peer configure tells this node's containerd of the mirror, pantala-peer cleanup puts it back; "
        "each has its own --help.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    for flag, shown, text in (
        ("supernode", "URL", "base URL of the supernode's API"),
        ("listen", "HOST:PORT", "where pieces are served to other peers"),
        ("root", "DIR", "the directory for the cache and the published files"),
        ("name", "NODE", "the node's name"),
        ("zone", "ZONE", "the node's zone"),
        ("token-file", "FILE", "bearer token to show to the supernode"),
        ("health-listen", "HOST:PORT", "where /healthz and /readyz are"),
        ("mirror-listen", "HOST:PORT", "where containerd finds the registry mirror (none)"),
        ("mirror-token-file", "FILE", "the token that containerd shows to the mirror"),
        ("mirror-resolve", "yes|no", "whether the mirror resolves tags, too (no)"),
        ("mirror-address", "URL", "how containerd reaches the mirror (http://127.0.0.1 and the mirror's port)"),
        ("runtime-socket", "unix:/PATH|none", "the runtime helper's socket (unix:/run/pantala/runtime.sock)"),
        ("blob-cache", "SIZE", "what images' blobs may take on the disk, like 10Gi (that, or a tenth of the disk)"),
        ("downloads", "N", "pieces fetched at once (4)"),
        ("uploads", "N", "pieces sent at once (4)"),
    ):
        parser.add_argument(f"--{flag}", metavar=shown, help=text)
    return parser


def _url(text: str) -> str:
    if not _is_url(text):
        raise SettingsError("--supernode is not a URL: give one like http://supernode:8002")
    return text.rstrip("/")


def _http(flag: str, text: str) -> str:
    if not _is_url(text):
        raise SettingsError(f"--{flag} is not a URL: give one like http://127.0.0.1:65001")
    return text.rstrip("/")


def _socket(flag: str, text: str) -> Path | None:
    if text == "none":
        return None
    scheme, _, path = text.partition(":")
    path = "/" + path.lstrip("/") if path.startswith("/") else ""
    if scheme != "unix" or len(path) < 2 or len(path.encode()) > 107:
        raise SettingsError(
            f"--{flag} is no unix socket: {text!r}; give one like unix:/run/pantala/runtime.sock, or none"
        )
    return Path(path)


_UNITS = {"": 1, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40}


def _size(flag: str, text: str) -> int:
    number = text.rstrip("KMGTi")
    unit = text[len(number) :]
    if not number.isascii() or not number.isdigit() or unit not in _UNITS or len(number) > 15:
        raise SettingsError(f"--{flag} is no size: {text!r}; give bytes, or a number with Ki, Mi, Gi or Ti, like 10Gi")
    return int(number) * _UNITS[unit]


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and not parts.query and not parts.fragment


def _address(flag: str, text: str) -> Address:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise SettingsError(f"--{flag} is not HOST:PORT: {text!r}")
    return Address(host.removeprefix("[").removesuffix("]"), int(port))


def _count(flag: str, text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 64:
        raise SettingsError(f"--{flag} is not a number from 1 to 64: {text!r}")
    return int(text)


def _choice(flag: str, text: str) -> bool:
    if text not in ("yes", "no"):
        raise SettingsError(f"--{flag} is neither yes nor no: {text!r}")
    return text == "yes"
