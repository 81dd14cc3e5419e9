"""The settings of a supernode."""

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from msgspec.structs import replace

from pantala_process import settings
from pantala_process.settings import Flag, ListenAddress, SettingsError, flag, switch
from pantala_process.tls.settings import TLSFlags
from pantala_protocol.geometry import RULES
from pantala_protocol.redaction import RedactedURL
from pantala_protocol.rules.quotas import Quotas, quotas
from pantala_protocol.rules.sources import Network
from pantala_protocol.rules.text import split_list
from pantala_protocol.statement import SourceRule
from pantala_supernode.outbound import policies, trust
from pantala_supernode.outbound.errors import OutboundError
from pantala_supernode.outbound.proxy import Proxy
from pantala_supernode.outbound.request import Limits, Timeouts
from pantala_supernode.registry.clouds.environment import PREFIXES
from pantala_supernode.registry.endpoint import RegistryEndpoints
from pantala_supernode.registry.mapping import grammar
from pantala_supernode.tasks.shares import Shares
from pantala_supernode.tasks.shares import parse as tenant_shares

_WEB = (80, 443)
"""The ports of a registry whose name has no port."""
_PIECES = ListenAddress("127.0.0.1", 8001)
_HEAD_LIMIT = 300 * 1024
"""The largest head that libcurl reads."""
_DRAGONFLY_CACHE = 6 * 3600
_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")

_duration = settings.whole(0, 999_999_999, "seconds")
_percent = settings.whole(1, 100, "percent")


def _networks(text: str) -> tuple[Network, ...]:
    try:
        return tuple(map(ipaddress.ip_network, split_list(text)))
    except ValueError as error:
        raise ValueError(f"is not a list of networks: {error}. Give networks like 10.0.0.0/8.") from error


def _sources(text: str) -> tuple[SourceRule, ...]:
    found = []
    for entry in split_list(text):
        try:
            found.append(policies.rule(entry, "--allow-source"))
        except ValueError as error:
            raise ValueError(f"has an invalid entry: {entry} {error}") from None
    return tuple(found)


def _head_size(text: str) -> int:
    value = settings.size(text)
    if not 1 <= value <= _HEAD_LIMIT:
        raise ValueError(f"is not a size from 1 to {_HEAD_LIMIT} bytes. Give a size like 64Ki.")
    return value


def _rule(text: str) -> str:
    if text not in RULES:
        raise ValueError(f"is not a rule for pieces. Give one of {', '.join(RULES)}.")
    return text


def _authorities(text: str) -> tuple[tuple[str, Path], ...]:
    found = []
    for part in split_list(text):
        host, equals, file = part.partition("=")
        found.append((host, Path(file)) if equals and "/" not in host else (trust.ALL, Path(part)))
    return tuple(found)


def _proxy_url(text: str, *, credentials: bool = False) -> str:
    if not text.isascii():
        raise ValueError("is not ASCII text. Give the ASCII form of the host.")
    url = settings.http_url(text if "://" in text else f"http://{text}")
    if urlsplit(url).username is not None and not credentials:
        raise ValueError("contains credentials. Put them into a file, and give it as --proxy-credentials.")
    return url


def _boolean(text: str) -> bool:
    lower = text.lower()
    return lower == "true" or (lower != "false" and settings.yes_or_no(lower))


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(TLSFlags):
    """One supernode's settings."""

    listen: ListenAddress = flag(
        settings.address, "HOST:PORT", "address of the API (127.0.0.1:8002)", default=ListenAddress("127.0.0.1", 8002)
    )
    piece_listen: ListenAddress = flag(
        settings.address, "HOST:PORT", "address of the pieces (127.0.0.1:8001)", default=_PIECES
    )
    """A separate port, so that pieces can have other network policies and limits than the API."""
    data: Path = flag(Path, "DIR", "the directory of the volume")
    advertise: str = flag(
        settings.host, "HOST", "host at which peers reach --piece-listen (the host of that flag)", default=""
    )
    no_auth: bool = switch("serve every client without a token; only on loopback, or with --i-know")
    trusted_operator: str = settings.account_flag("operator", "the operator")
    trusted_peer: str = settings.account_flag("peer", "the peers")
    trusted_supernode: str = settings.account_flag("supernode", "the other supernodes")
    token_file: Path | None = flag(Path, "FILE", "bearer token for the other supernodes", default=None)
    """The file is read for each request, because the kubelet replaces it."""
    leave_seconds: float = flag(
        _duration, "SECONDS", "time to hand tasks over before the supernode stops (600)", default=600
    )
    """The default is about the time that a new owner needs for a large file from a slow origin. The value must be less
    than the pod's grace period."""
    api_server: str = flag(settings.http_url, "URL", "API server whose tokens are trusted (the pod's)", default="")
    api_ca: Path | None = flag(Path, "FILE", "the API server's certificate authority (the pod's)", default=None)
    api_token_file: Path | None = flag(Path, "FILE", "token to read the API server's keys (the pod's)", default=None)
    allow_source: tuple[SourceRule, ...] = flag(
        _sources,
        "CIDR|HOST,...",
        "internal networks and hosts that may be read: 10.0.0.0/8, files.corp, *.corp:8443 (public addresses only)",
        default=(),
    )
    """SourcePolicies in the statement allow more. The endpoints of listed registries are always allowed."""
    deny_source: tuple[Network, ...] = flag(
        _networks, "CIDR,...", "networks that are never read, even if a SourcePolicy allows them", default=()
    )
    piece_slots: int = 16
    """Pieces sent at once: twice as many as the scheduler allows, because a peer may fetch a lost piece again."""
    grace: float = 5.0
    """Seconds that a removed Task stays wanted, so that its replacement does not need a second read of the origin."""
    dragonfly: bool = switch("serve Dragonfly's clients (dfget, dfdaemon), which cannot authenticate")
    """If this is on, every client that reaches the API can make the supernode fetch files."""
    health_listen: ListenAddress | None = flag(
        settings.address, "HOST:PORT", "where to serve /healthz and /readyz for probes (default: nowhere)", default=None
    )
    """A port and a thread of their own, so that clients of the API cannot make probes fail."""
    metrics_open: bool = switch("serve /metrics without a token, also at --health-listen: counts only, no names")
    """If this is off, only the operator's ServiceAccount may read the metrics."""
    cache_seconds: float = flag(
        _duration, "SECONDS", "time that an unwanted copy is kept (0; 21600 with --dragonfly)", default=0
    )
    """The default is longer with ``--dragonfly``, because clients request the same file one after another."""
    disk_high: float = flag(
        _percent, "PERCENT", "disk use above which unwanted copies are removed, oldest first (90)", default=90
    )
    disk_low: float = flag(_percent, "PERCENT", "disk use at which the removal stops (80)", default=80)
    quotas: Quotas = flag(
        quotas,
        "NAMESPACE=QUOTA[;...],...",
        "bytes kept and read a day for a namespace, like *=bytes:10Gi;daily:1Ti (no limit)",
        default=Quotas(),
    )
    disk_headroom: float = flag(
        settings.whole(0, 90, "percent"), "PERCENT", "part of the volume's disk that stays free (5)", default=5
    )
    fresh_seconds: float = flag(
        _duration, "SECONDS", "time that an unwanted copy is reused without asking its origin (60)", default=60
    )
    """The origin's headers Cache-Control and Expires take precedence. A file with a digest is never checked again."""
    origin_connections: int = flag(
        settings.whole(1, 64, "connections"), "N", "connections for one file, if its origin allows ranges (8)",
        default=8,
    )  # fmt: skip
    origin_first_byte: float = flag(
        settings.seconds,
        "SECONDS",
        "time until the first byte of an origin's answer (300)",
        default=Timeouts().first_byte,
    )
    """The time is long, because a caching repository may fetch the whole file before it answers."""
    origin_head_size: int = flag(
        _head_size, "SIZE", "the largest head of an origin's answer (256Ki, at most 300Ki)", default=Limits().head
    )
    origin_ca: tuple[tuple[str, Path], ...] = flag(
        _authorities,
        "[HOST=]FILE,...",
        "PEM files with private certificate authorities of origins, each for one host or for all",
        default=(),
    )
    proxy: Proxy | None = None
    """The forward proxy for origins and registries. Pantala's own processes never use it. ``None``: no proxy."""
    origin_rate: float | None = flag(
        settings.rate, "RATE", "bytes a second read from all origins together, like 50M or 1Gi (no limit)", default=None
    )
    bandwidth: float | None = flag(
        settings.rate, "RATE", "bytes a second of the supernode's network link, like 125M (not known)", default=None
    )
    """The bandwidth decides how many pieces the supernode sends at once: 8 if it is not known."""
    shares: Shares = flag(
        tenant_shares,
        "NAMESPACE=N,...",
        "shares of namespaces in places, bytes per second and slots, from 1 to 1000 (1 each)",
        default=Shares(),
    )
    """``@images`` stands for the blobs that nodes pull, and ``@dragonfly`` for the files of Dragonfly's clients."""
    serve_rate: float | None = flag(
        settings.rate, "RATE", "bytes a second of pieces sent to all peers, like 50M or 1Gi (no limit)", default=None
    )
    node: str = flag(str, "NODE", "the node that the supernode runs on", default="")
    """The peer on that node gets all pieces from the supernode without a network, and serves them to other peers."""
    piece_size_rule: str = flag(
        _rule, "RULE", "rule for piece sizes: mixed, swarm or dragonfly (mixed)", default="mixed"
    )
    """``swarm``: small pieces, best for many peers. ``dragonfly``: the piece sizes of Dragonfly's supernode. ``mixed``:
    as ``swarm``, but 4 MiB for files that only Dragonfly's clients want."""
    registries: RegistryEndpoints = field(default_factory=RegistryEndpoints)
    """How to reach container registries, and which registries are allowed."""
    cloud: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The variables of the pod that describe its cloud identity."""
    blob_seconds: float = flag(
        _duration, "SECONDS", "time that an image's blob is kept after the last node waited for it (21600)",
        default=21600,
    )  # fmt: skip
    log_level: int = settings.log_level_flag()

    @property
    def sources(self) -> tuple[SourceRule, ...]:
        """The sources that are allowed without a SourcePolicy, in addition to public addresses."""
        listed = (policies.rule(host, "--registries") for host in sorted(self.registries.listed))
        return *self.allow_source, *(replace(each, ports=each.ports or _WEB) for each in listed)

    @property
    def uplink(self) -> float | None:
        """The bytes of pieces that can leave this supernode in a second. ``None``: not known."""
        return min((rate for rate in (self.bandwidth, self.serve_rate) if rate is not None), default=None)


_MORE = {
    "registries": Flag(
        str, "REGISTRY,...", "registries: HOST, http://HOST without TLS, or HOST=URL to reach it at another URL"
    ),
    "registry_ca": Flag(str, "HOST=FILE,...", "certificate authorities of registries or of URLs in --registries"),
    "registry_realms": Flag(str, "REGISTRY=HOST[:PORT],...", "token servers that may get a registry's passwords"),
    "registries_only": Flag(_boolean, "yes|no", "read only the registries that --registries lists (no)"),
    "proxy": Flag(_proxy_url, "URL", "forward proxy for origins and registries (HTTPS_PROXY, HTTP_PROXY, or none)"),
    "no_proxy": Flag(
        str, "HOST,...", "hosts that are reached without the proxy (NO_PROXY): names, addresses, networks"
    ),
    "proxy_credentials": Flag(Path, "FILE", "user:password for the proxy; a changed file is read again"),
    "i_know": Flag(settings.is_on, None, "I know that --no-auth lets in every client that reaches the ports"),
}
"""Flags that have no field of the same name in :class:`Settings`."""


def parse(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """Read flags and environment. Raises :class:`SettingsError`."""
    given = settings.parse(
        settings.flags(Settings) | _MORE,
        arguments,
        environment,
        program="pantala-supernode",
        description="Pantala's supernode: tracker, scheduler and CDN.",
    )
    more = {name: given.pop(name) for name in _MORE if name in given}
    given["deny_source"] = (*given.get("deny_source", ()), *_api_server(environment))
    found = Settings(
        **_derived(given, environment) | given,
        registries=_registries(more),
        cloud=_cloud(environment),
        proxy=_proxy(more, environment),
    )
    found.check_tls()
    if found.tls_dir is not None and found.dragonfly:
        raise SettingsError(
            "--dragonfly needs plain HTTP, because Dragonfly's clients have no certificates. Remove --tls-dir."
        )
    try:
        trust.check(*(file for _, file in found.origin_ca))
    except OutboundError as error:
        raise SettingsError(f"--origin-ca {error}. Give files with certificates in PEM.") from None
    if found.no_auth and not more.get("i_know") and not (found.listen.is_loopback and found.piece_listen.is_loopback):
        raise SettingsError(
            "--no-auth is for loopback addresses only. To let in every client that reaches the ports, add --i-know."
        )
    if found.disk_low > found.disk_high:
        raise SettingsError(
            f"--disk-low {found.disk_low:g} is above --disk-high {found.disk_high:g}. Give the lower one as --disk-low."
        )
    return found


def _derived(given: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    """The defaults that depend on other settings, or on the variables and files that Kubernetes gives a pod."""
    derived: dict[str, Any] = {"advertise": given.get("piece_listen", _PIECES).host}
    if given.get("dragonfly"):
        derived["cache_seconds"] = _DRAGONFLY_CACHE
    if given.get("bandwidth"):
        derived["piece_slots"] = 64
    if host := environment.get("KUBERNETES_SERVICE_HOST"):
        port = environment.get("KUBERNETES_SERVICE_PORT", "443")
        derived["api_server"] = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    for name, file in (("api_ca", "ca.crt"), ("api_token_file", "token")):
        if (_SERVICE_ACCOUNT / file).exists():
            derived[name] = _SERVICE_ACCOUNT / file
    return derived


def _api_server(environment: Mapping[str, str]) -> tuple[Network, ...]:
    """The address of the API server, if this is a pod. It is never an allowed source."""
    try:
        return (ipaddress.ip_network(environment.get("KUBERNETES_SERVICE_HOST", "")),)
    except ValueError:
        return ()


def _proxy(given: Mapping[str, Any], environment: Mapping[str, str]) -> Proxy | None:
    """The proxy that the flags name, or the variables that other programs read too."""
    url = given.get("proxy") or _first(environment, "https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY")
    if not url:
        return None
    exceptions = given.get("no_proxy") or _first(environment, "no_proxy", "NO_PROXY")
    try:
        found = Proxy(_proxy_url(url, credentials=True), split_list(exceptions), given.get("proxy_credentials"))
        found.login()
    except ValueError as error:
        raise SettingsError(f"The proxy {RedactedURL(url)} {error}") from None
    except OSError as error:
        raise SettingsError(f"--proxy-credentials: {error.filename} cannot be read: {error.strerror}.") from None
    return found


def _first(environment: Mapping[str, str], *names: str) -> str:
    return next((environment[name] for name in names if environment.get(name)), "")


def _cloud(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: text for name, text in environment.items() if name.startswith(PREFIXES)}


def _registries(given: Mapping[str, Any]) -> RegistryEndpoints:
    try:
        return grammar.listed(
            given.get("registries", ""),
            given.get("registry_ca", ""),
            given.get("registry_realms", ""),
            only=given.get("registries_only", False),
        )
    except ValueError as error:
        raise SettingsError(f"--registries, --registry-ca or --registry-realms: {error}") from error
