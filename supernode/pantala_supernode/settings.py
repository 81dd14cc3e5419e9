"""All that can be set, with units and reasons; flags and environment are read here and nowhere else."""

from __future__ import annotations

import argparse
import ipaddress
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from pantala_protocol.geometry import RULES
from pantala_supernode.registry import endpoint
from pantala_supernode.registry.endpoint import RegistryEndpoints

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

OPERATOR = "system:serviceaccount:pantala:pantala-operator"
SUPERNODE = "system:serviceaccount:pantala:pantala-supernode"
PEER = "system:serviceaccount:pantala:pantala-peer"
API_SERVER = "https://kubernetes.default.svc"

_DRAGONFLY_CACHE = 6 * 3600.0

_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
_QUANTITY = re.compile(r"([1-9][0-9]{0,11})(|k|M|G|Ki|Mi|Gi)")

_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class Listen(NamedTuple):
    """An address to listen at."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


class SettingsError(ValueError):
    """A setting is wrong; the message says which and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """A supernode's settings."""

    listen: Listen
    """Where the API is served."""
    piece_listen: Listen
    """Where pieces are served: a port of its own, so that it can be limited and allowed apart from the API."""
    data: Path
    """The volume."""
    advertise: str
    """The host that peers are told to read our pieces from."""
    no_auth: bool = False
    """Everybody may do everything: for one machine, or for those who know."""
    trusted_operator: str = OPERATOR
    """Whose token states what is wanted."""
    trusted_peer: str = PEER
    """Whose tokens take and give pieces."""
    trusted_supernode: str = SUPERNODE
    """Whose tokens take copies: the other supernodes'."""
    token_file: Path | None = None
    """Shown to the other supernodes; read each time, since the kubelet rotates it."""
    leave_seconds: float = 600.0
    """Seconds that a supernode which is to go may take to give its tasks away: about as long as a large file takes to
    reach its new owner from a slow origin, and less than the pod's grace period."""
    api_server: str = API_SERVER
    """Whose keys tokens are checked with."""
    api_ca: Path | None = None
    """Who signs the API server's certificate; the pod's, if there is one."""
    api_token: Path | None = None
    """Shown to the API server to read its keys; the pod's, if there is one."""
    deny_source: tuple[Network, ...] = ()
    """Further networks (CIDR) that no file is read from; link-local ones never are."""
    piece_slots: int = 16
    """Pieces sent at once. Twice what the scheduler books, since a peer may fetch again what it lost."""
    grace: float = 5.0
    """Seconds that a task no longer wanted is kept: a Task that is replaced costs no second read."""
    dragonfly: bool = False
    """Serve Dragonfly's clients, too. They cannot authenticate: whoever reaches the API may have files fetched."""
    metrics_open: bool = False
    """Tell metrics to everybody who reaches the API; else to the operator's service account alone."""
    cache_seconds: float = 0.0
    """Seconds that a copy stays on the volume after nobody wants it any more; 6 h with ``dragonfly``, whose clients
    come one after the other."""
    disk_high: float = 90.0
    """Percent of the volume's file system above which copies that nobody wants are removed, whatever their age ..."""
    disk_low: float = 80.0
    """... until it is no fuller than this."""
    fresh_seconds: float = 60.0
    """Seconds for which a copy that nobody wanted for a while is used again without asking its origin, where that does
    not say how long it holds (Cache-Control, Expires). What a digest pins is never asked for."""
    origin_rate: float | None = None
    """Bytes a second read from all origins together; ``None``: as fast as they come."""
    bandwidth: float | None = None
    """Bytes a second that the supernode's link carries: decides how many pieces it gives at once; ``None``: not known,
    it gives 8."""
    serve_rate: float | None = None
    """Bytes a second of pieces that are sent to all together; ``None``: as fast as they go."""
    node: str = ""
    """The machine that it runs on: the peer of that name takes all its pieces from here, past any link, and serves them
    to others in its place."""
    piece_size_rule: str = "swarm"
    """How files are cut: ``swarm``, small pieces, as is best for many peers; ``dragonfly``, as its supernode did."""
    registries: RegistryEndpoints = field(default_factory=RegistryEndpoints)
    """How container registries are spoken to, and which may be."""
    blob_seconds: float = 21600.0
    """Seconds that an image's blob is kept after no node waits for it any more: the next one is served from here."""

    @property
    def uplink(self) -> float | None:
        """Bytes a second of pieces that can leave this supernode; ``None``: not known."""
        return min((rate for rate in (self.bandwidth, self.serve_rate) if rate is not None), default=None)


class _Flag(NamedTuple):
    name: str
    text: str
    default: str | None


_FLAGS = (
    _Flag("listen", "HOST:PORT of the API", "127.0.0.1:8002"),
    _Flag("piece-listen", "HOST:PORT of the pieces", "127.0.0.1:8001"),
    _Flag("data", "directory of the volume", None),
    _Flag("advertise", "host that peers read our pieces from (default: that of --piece-listen)", ""),
    _Flag("trusted-operator", "service account that states what is wanted", OPERATOR),
    _Flag("trusted-peer", "service account of the peers", PEER),
    _Flag("trusted-supernode", "service account of the other supernodes", SUPERNODE),
    _Flag("token-file", "file with the token to show to the other supernodes", ""),
    _Flag("leave-seconds", "seconds that giving tasks away may take before it stops", "600"),
    _Flag("api-server", "URL of the API server whose tokens are trusted", ""),
    _Flag("api-ca", "file with its certificate authority", ""),
    _Flag("api-token-file", "file with the token to read its keys", ""),
    _Flag(
        "cache-seconds", "seconds that a copy is kept after nobody wants it (default: 0, 21600 with --dragonfly)", ""
    ),
    _Flag("disk-high", "percent of the volume's disk above which unwanted copies are removed, oldest first", "90"),
    _Flag("disk-low", "percent of the volume's disk down to which they are", "80"),
    _Flag("fresh-seconds", "seconds for which a copy used again is not asked for at its origin", "60"),
    _Flag("origin-rate", "bytes a second read from all origins together, like 50M or 1Gi (default: no limit)", ""),
    _Flag(
        "bandwidth",
        "bytes a second of the supernode's link, like 125M, to fill it with pieces (default: 8 at once)",
        "",
    ),
    _Flag("serve-rate", "bytes a second of pieces sent to all together, like 50M or 1Gi (default: no limit)", ""),
    _Flag("node", "name of the node that it runs on: the peer there takes all its pieces from here", ""),
    _Flag("piece-size-rule", "how files are cut: swarm, or dragonfly", "swarm"),
    _Flag(
        "registries",
        "registries, comma-separated: names or https:// for TLS, http://HOST:PORT for plain http",
        "",
    ),
    _Flag("registry-ca", "HOST=FILE, comma-separated: the authority that signed a registry's certificate", ""),
    _Flag("registries-only", "yes: no registries but the listed ones are asked", "no"),
    _Flag("blob-seconds", "seconds that an image's blob is kept after nobody waits for it any more", "21600"),
    _Flag("deny-source", "networks (CIDR, comma-separated) that no file is read from", ""),
)
_SWITCHES = (
    _Flag("dragonfly", "serve Dragonfly's clients (dfget, dfdaemon), who cannot authenticate", None),
    _Flag("metrics-open", "tell metrics to everybody who reaches the API: counts only, no names", None),
    _Flag("no-auth", "take everybody as everybody; only on loopback, or with --i-know", None),
    _Flag("i-know", "I know that --no-auth lets everybody who reaches the ports in", None),
)


def read(argv: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """Settings from flags, else from ``PANTALA_`` variables, else defaults.

    Exits with 2 and one line on an unknown flag; raises :class:`SettingsError` on a wrong value.
    """
    parser = argparse.ArgumentParser(
        "pantala-supernode", description="Pantala's supernode: tracker, scheduler and CDN."
    )
    for flag in _FLAGS:
        parser.add_argument(f"--{flag.name}", default=_variable(flag.name, environment) or flag.default, help=flag.text)
    for flag in _SWITCHES:
        default = _variable(flag.name, environment).lower() in {"1", "true", "yes"}
        parser.add_argument(f"--{flag.name}", action="store_true", default=default, help=flag.text)
    return _settings(parser.parse_args(argv))


def _settings(values: argparse.Namespace) -> Settings:
    if not values.data:
        raise SettingsError("--data is missing: name the directory of the volume")
    listen, piece_listen = _listen("--listen", values.listen), _listen("--piece-listen", values.piece_listen)
    if values.no_auth and not values.i_know and not (listen.is_loopback and piece_listen.is_loopback):
        raise SettingsError("--no-auth is for loopback addresses only; if everybody may do everything, add --i-know")
    high, low = _percent("--disk-high", values.disk_high), _percent("--disk-low", values.disk_low)
    if low > high:
        raise SettingsError(f"--disk-low {low:g} is above --disk-high {high:g}: give the lower one as --disk-low")
    if values.piece_size_rule not in RULES:
        raise SettingsError(f"--piece-size-rule {values.piece_size_rule!r}: give one of {', '.join(RULES)}")
    host = os.environ.get("KUBERNETES_SERVICE_HOST", "")
    port = os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    in_cluster = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    return Settings(
        listen=listen,
        piece_listen=piece_listen,
        data=Path(values.data),
        advertise=values.advertise or piece_listen.host,
        no_auth=values.no_auth,
        trusted_operator=values.trusted_operator,
        trusted_peer=values.trusted_peer,
        trusted_supernode=values.trusted_supernode,
        token_file=Path(values.token_file) if values.token_file else None,
        leave_seconds=_seconds("--leave-seconds", values.leave_seconds, 600.0),
        api_server=values.api_server or (in_cluster if host else API_SERVER),
        api_ca=_file(values.api_ca, _SERVICE_ACCOUNT / "ca.crt"),
        api_token=_file(values.api_token_file, _SERVICE_ACCOUNT / "token"),
        dragonfly=values.dragonfly,
        metrics_open=values.metrics_open,
        cache_seconds=_seconds("--cache-seconds", values.cache_seconds, _DRAGONFLY_CACHE if values.dragonfly else 0.0),
        disk_high=high,
        disk_low=low,
        fresh_seconds=_seconds("--fresh-seconds", values.fresh_seconds, 60.0),
        origin_rate=_rate("--origin-rate", values.origin_rate),
        bandwidth=_rate("--bandwidth", values.bandwidth),
        piece_slots=64 if values.bandwidth else 16,
        serve_rate=_rate("--serve-rate", values.serve_rate),
        node=values.node,
        piece_size_rule=values.piece_size_rule,
        registries=_registries(values),
        blob_seconds=_seconds("--blob-seconds", values.blob_seconds, 21600.0),
        deny_source=tuple(_network(text.strip()) for text in values.deny_source.split(",") if text.strip()),
    )


def _variable(flag: str, environment: Mapping[str, str]) -> str:
    return environment.get("PANTALA_" + flag.upper().replace("-", "_"), "")


def _listen(flag: str, text: str) -> Listen:
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise SettingsError(f"{flag} {text!r}: give HOST:PORT")
    return Listen(host.strip("[]"), int(port))


def _seconds(flag: str, text: str, default: float) -> float:
    if not text:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise SettingsError(f"{flag} {text!r}: give a whole number of seconds")
    return float(text)


def _percent(flag: str, text: str) -> float:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= 100:
        raise SettingsError(f"{flag} {text!r}: give a whole number of percent, 1 to 100")
    return float(text)


def _rate(flag: str, text: str) -> float | None:
    if not text:
        return None
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise SettingsError(f"{flag} {text!r}: give bytes a second like 500k, 50M or 1Gi")
    return float(int(match[1]) * _UNITS[match[2]])


def _registries(values: argparse.Namespace) -> RegistryEndpoints:
    only = values.registries_only.lower()
    if only not in ("yes", "no", "true", "false"):
        raise SettingsError(f"--registries-only {values.registries_only!r}: give yes or no")
    try:
        return endpoint.listed(values.registries, values.registry_ca, only=only in ("yes", "true"))
    except ValueError as error:
        raise SettingsError(f"--registries or --registry-ca: {error}") from error


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise SettingsError(f"--deny-source {text!r}: {error}; give networks like 10.0.0.0/8") from error


def _file(text: str, default: Path) -> Path | None:
    if text:
        return Path(text)
    return default if default.exists() else None
