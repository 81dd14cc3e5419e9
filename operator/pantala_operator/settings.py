"""The operator's settings: flags and environment are mapped here and nowhere else."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from pantala_operator.errors import SettingsError
from pantala_protocol import __version__
from pantala_protocol.redaction import RedactedURL

_WHICH = "which supernodes? set either --supernode http://HOST:8002 or --supernode-statefulset NAMESPACE/NAME"


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be set."""

    supernode: tuple[str, ...] = ()
    """Base URLs of the supernodes' APIs, ``http://HOST:8002``, where they are fixed. Empty: see the next."""

    supernode_statefulset: str = ""
    """``NAMESPACE/NAME`` of the supernodes' StatefulSet: its replicas are the supernodes. Empty: see the former."""

    kubeconfig: str = ""
    """Kubeconfig file. Empty: the pod's service account, else ``KUBECONFIG``, else ``~/.kube/config``."""

    health_listen: str = "127.0.0.1:8080"
    """``HOST:PORT`` of ``/healthz`` and ``/readyz``. Loopback by default: nothing is open that nobody asked for."""

    token_file: str = ""
    """File with the bearer token for the supernode, read for each request since it is rotated. Empty: none is sent."""

    root: str = "/var/lib/pantala/files"
    """The directory on nodes below which files appear; only needed to judge absolute paths in Tasks."""

    namespace: str = ""
    """The operator's own namespace: ImagePrefetches there may follow other namespaces. Empty: none may."""

    relist_interval: float = 120.0
    """Seconds between full lists. They find what watching missed; each costs the API server one paged list per kind."""

    progress_interval: float = 5.0
    """Seconds between two writes of one Task's status that tell progress only. Transitions are written at once."""

    supernode_patience: float = 10.0
    """Seconds of silence from the supernode before Tasks say so: a restart of its pod is shorter, most of the time."""


def load(arguments: Sequence[str], environment: Mapping[str, str] = os.environ) -> Settings:
    """Read flags, then environment (``PANTALA_FOO_BAR`` for ``--foo-bar``), then defaults.

    Raises :class:`SettingsError` for a value that cannot be used; wrong flags end the process with status 2.
    """
    flags = vars(_parser().parse_args(arguments))

    def value(name: str, default: str) -> str:
        flag = flags[name]
        return str(flag) if flag is not None else environment.get(f"PANTALA_{name.upper()}") or default

    supernode, stateful_set = value("supernode", ""), value("supernode_statefulset", "")
    if bool(supernode) == bool(stateful_set):
        raise SettingsError(_WHICH)
    return Settings(
        supernode=_urls(supernode),
        supernode_statefulset=_stateful_set(stateful_set),
        kubeconfig=value("kubeconfig", ""),
        health_listen=_address(value("health_listen", "127.0.0.1:8080")),
        token_file=value("token_file", ""),
        root=_directory(value("root", "/var/lib/pantala/files")),
        namespace=value("namespace", environment.get("POD_NAMESPACE", "")),
        relist_interval=_seconds("relist-interval", value("relist_interval", "120")),
        progress_interval=_seconds("progress-interval", value("progress_interval", "5")),
        supernode_patience=_seconds("supernode-patience", value("supernode_patience", "10")),
    )


def host_and_port(address: str) -> tuple[str, int]:
    """Split ``HOST:PORT``; an IPv6 host is in brackets."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pantala-operator",
        description="Watches Tasks, tells the supernode what is wanted. Each flag --foo-bar mirrors PANTALA_FOO_BAR.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    parser.add_argument("--supernode", metavar="URL[,URL...]", help="the supernodes' APIs, http://HOST:8002")
    parser.add_argument(
        "--supernode-statefulset", metavar="NAMESPACE/NAME", help="instead: the StatefulSet whose replicas they are"
    )
    parser.add_argument("--kubeconfig", metavar="FILE", help="default: service account, KUBECONFIG, ~/.kube/config")
    parser.add_argument("--health-listen", metavar="HOST:PORT", help="/healthz and /readyz (default 127.0.0.1:8080)")
    parser.add_argument("--token-file", metavar="FILE", help="bearer token for the supernode (default: none)")
    parser.add_argument("--root", metavar="DIR", help="where files appear on nodes (default /var/lib/pantala/files)")
    parser.add_argument("--namespace", metavar="NAME", help="the operator's own (default: POD_NAMESPACE)")
    parser.add_argument("--relist-interval", metavar="SECONDS", help="between full lists (default 120)")
    parser.add_argument("--progress-interval", metavar="SECONDS", help="between two reports of progress (default 5)")
    parser.add_argument("--supernode-patience", metavar="SECONDS", help="silence before Tasks say so (default 10)")
    return parser


def _urls(text: str) -> tuple[str, ...]:
    urls = tuple(url.strip().rstrip("/") for url in text.split(",")) if text else ()
    for url in urls:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise SettingsError(f"--supernode {RedactedURL(url)!s} is no URL; write it as in http://HOST:8002")
    if len({urlsplit(url).netloc.rpartition("@")[2] for url in urls}) < len(urls):
        raise SettingsError("--supernode names one host and port twice; name each supernode once")
    return urls


def _stateful_set(text: str) -> str:
    namespace, _, name = text.partition("/")
    if text and (not namespace or not name or "/" in name):
        raise SettingsError(f"--supernode-statefulset {text!r} is no StatefulSet; write NAMESPACE/NAME")
    return text


def _address(text: str) -> str:
    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise SettingsError(f"--health-listen {text!r} is no address; write HOST:PORT, as in 0.0.0.0:8080")
    return text


def _directory(text: str) -> str:
    if not text.startswith("/") or text.rstrip("/") == "":
        raise SettingsError(f"--root {text!r} is no absolute directory; write it as in /var/lib/pantala/files")
    return text.rstrip("/")


def _seconds(flag: str, text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0.0 < seconds < float("inf"):
        raise SettingsError(f"--{flag} {text!r} is no number of seconds above 0")
    return seconds
