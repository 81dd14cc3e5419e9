"""The settings of the operator."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from pantala_process import settings
from pantala_process.settings import ListenAddress, SettingsError, flag
from pantala_protocol.rules.names import SharedPath, shared_paths
from pantala_protocol.rules.quotas import Quotas, quotas
from pantala_protocol.rules.text import split_list

_TAINT = re.compile("[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?(/([A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?)?)?")
"""The schema of the chart's values has the same pattern."""


def _urls(text: str) -> tuple[str, ...]:
    urls = tuple(map(settings.http_url, split_list(text) or (text,)))
    if len({urlsplit(url).netloc.rpartition("@")[2] for url in urls}) < len(urls):
        raise ValueError("names one host and port twice. Name each supernode once.")
    return urls


def _name_of(kind: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        namespace, _, name = text.partition("/")
        if not namespace or not name or "/" in name:
            raise ValueError(f"is not the name of a {kind}. Write NAMESPACE/NAME.")
        return text

    return read


def _taints(text: str) -> tuple[str, ...]:
    keys = split_list(text)
    for key in keys:
        if _TAINT.fullmatch(key) is None:
            raise ValueError(f"has an invalid key: {key!r}. Give keys like startup.pantala.dev/a, or a prefix with /.")
    return keys


def _directory(text: str) -> str:
    if not text.startswith("/") or text.rstrip("/") == "":
        raise ValueError("is not an absolute directory. Write it as in /var/lib/pantala/files.")
    return text.rstrip("/")


def _loopback(text: str) -> ListenAddress:
    address = settings.address(text)
    if not address.is_loopback:
        raise ValueError(
            "is not a loopback address. The console has no login, so other addresses are refused. "
            "Give an address such as 127.0.0.1:8090."
        )
    return address


@dataclass(frozen=True, slots=True)
class Settings:
    """One operator's settings."""

    supernode: tuple[str, ...] = flag(
        _urls,
        "URL[,URL...]",
        "the URLs of the supernodes' APIs, if their number is fixed, like http://HOST:8002",
        default=(),
    )
    supernode_statefulset: str | None = flag(
        _name_of("StatefulSet"), "NAMESPACE/NAME",
        "instead of --supernode: the StatefulSet of the supernodes", default=None,
    )  # fmt: skip
    kubeconfig: str = flag(
        str, "FILE", "kubeconfig (default: service account, else KUBECONFIG, else ~/.kube/config)", default=""
    )
    health_listen: ListenAddress = flag(
        settings.address,
        "HOST:PORT",
        "where /healthz, /readyz and /metrics are served (127.0.0.1:8080)",
        default=ListenAddress("127.0.0.1", 8080),
    )
    """Loopback by default, so that the default opens no port to the network."""
    console_listen: ListenAddress | None = flag(
        _loopback,
        "HOST:PORT",
        "loopback address of the console, for its page and kubectl pantala, like 127.0.0.1:8090 (default: no console)",
        default=None,
    )
    token_file: Path | None = flag(
        Path, "FILE", "bearer token for the supernodes, read for each request (default: none)", default=None
    )
    tls_listen: ListenAddress | None = flag(
        settings.address,
        "HOST:PORT",
        "address that signs certificates of supernodes and peers (default: none, and all processes use plain HTTP)",
        default=None,
    )
    tls_secret: str = flag(
        str,
        "NAME",
        "Secret in the operator's namespace with the certificate authority (pantala-tls)",
        default="pantala-tls",
    )
    tls_bundle: str = flag(
        str, "NAME", "ConfigMap for the certificates of the trusted authorities (pantala-tls)", default="pantala-tls"
    )
    tls_issuer_secret: str = flag(
        str, "NAME", "Secret with an authority from cert-manager (default: the operator makes one)", default=""
    )
    tls_service: str = flag(str, "NAME", "Service of the operator (pantala-operator)", default="pantala-operator")
    """It is the name in the operator's certificate that supernodes and peers verify."""
    trusted_peer: str = settings.account_flag("peer", "the peers")
    trusted_supernode: str = settings.account_flag("supernode", "the supernodes")
    pod: str = flag(str, "NAME", "the operator's own pod (default: POD_ID)", default="")
    lease: str | None = flag(
        _name_of("Lease"), "NAMESPACE/NAME",
        "Lease of the leading operator (default: none, only one operator runs)", default=None,
    )  # fmt: skip
    root: str = flag(
        _directory,
        "DIR",
        "folder in which files appear on nodes (/var/lib/pantala/files)",
        default="/var/lib/pantala/files",
    )
    """Needed only to check the absolute paths of Tasks."""
    shared_paths: tuple[SharedPath, ...] = flag(
        shared_paths,
        "NAMESPACE=PREFIX[,...]",
        "folders where the Tasks of a namespace may publish, besides the folder with its name (default: none)",
        default=(),
    )
    quotas: Quotas = flag(
        quotas,
        "NAMESPACE=QUOTA[;...],...",
        "how many Tasks each namespace may have, like *=tasks:100,team-a=tasks:1000 (no limit)",
        default=Quotas(),
    )
    """The supernodes have the same flag, and apply the quotas of bytes."""
    namespace: str = flag(str, "NAME", "the operator's own namespace (default: POD_NAMESPACE)", default="")
    """Only ImagePrefetches in this namespace may select workloads of other namespaces. Empty: no ImagePrefetch may."""
    account: str = flag(
        str, "NAMESPACE:NAME", "the operator's ServiceAccount (pantala:pantala-operator)",
        default="pantala:pantala-operator",
    )  # fmt: skip
    """For messages only, like :attr:`secret_role`."""
    secret_role: str = flag(
        str, "NAME", "the ClusterRole that may get Secrets (pantala-secret-reader)", default="pantala-secret-reader"
    )
    startup_taints: tuple[str, ...] = flag(
        _taints,
        "KEY,...",
        "keys of the taints that the operator may remove from nodes; PREFIX/ means all keys with this prefix (none)",
        default=(),
    )
    node_condition: bool = flag(
        settings.yes_or_no, "yes|no", "write the condition pantala.dev/ImagesReady to nodes (no)", default=False
    )
    relist_interval: float = flag(settings.seconds, "SECONDS", "time between lists of all objects (120)", default=120.0)
    """A full list finds changes that a watch missed. It costs the API server one paged list per kind."""
    progress_interval: float = flag(
        settings.seconds, "SECONDS", "time between two progress updates of one Task (5)", default=5.0
    )
    """A condition that becomes True or False is written at once."""
    peer_health_port: int = flag(
        settings.whole(1, 65535, "ports"), "PORT", "port of the peers' health probes (65003)", default=65003
    )
    """The operator asks a peer at this port if the peer is silent."""
    supernode_patience: float = flag(
        settings.seconds, "SECONDS", "silence of a supernode before Tasks report it (10)", default=10.0
    )
    """Most restarts of a supernode's pod are shorter."""
    log_level: int = settings.log_level_flag()

    @property
    def secret_grant(self) -> str:
        """The command that lets the operator read the Secrets of ``{namespace}``."""
        return (
            "kubectl create rolebinding pantala-secrets --namespace={namespace} "
            f"--clusterrole={self.secret_role} --serviceaccount={self.account}"
        )


def parse(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """Read flags and environment. Raises :class:`SettingsError`."""
    values = settings.parse(
        settings.flags(Settings),
        arguments,
        environment,
        program="pantala-operator",
        description="Plans Tasks, ImagePrefetches and Peers, and writes their status.",
    )
    if "supernode" in values and "supernode_statefulset" in values:
        raise SettingsError("--supernode and --supernode-statefulset exclude each other. Give only one of them.")
    if "supernode" not in values and "supernode_statefulset" not in values:
        raise SettingsError(
            "The supernodes are not known. "
            "Set either --supernode http://HOST:8002 or --supernode-statefulset NAMESPACE/NAME."
        )
    values.setdefault("namespace", environment.get("POD_NAMESPACE", ""))
    values.setdefault("pod", environment.get("POD_ID", ""))
    if "tls_listen" in values and not ("supernode_statefulset" in values and values["namespace"] and values["pod"]):
        raise SettingsError(
            "--tls-listen needs --supernode-statefulset, --namespace and --pod. Certificates contain these names."
        )
    return Settings(**values)
