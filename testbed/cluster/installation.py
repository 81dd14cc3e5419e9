"""Installs Pantala on the cluster: builds and pushes images of this checkout, and installs the chart with them."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from testbed.cluster import layout
from testbed.cluster.cluster import Cluster
from testbed.cluster.command import run
from testbed.cluster.images import build, exists, prune

COMPONENTS = ("operator", "supernode", "peer", "runtime")
NAMESPACE = "pantala"
_PROJECT = Path(__file__).resolve().parents[2]
_CHART = _PROJECT / "charts" / "pantala"
_SOURCES = ("protocol", "process", "pieces", "supernode", "peer", "operator", "cli", "requirements")
_FILES = ("Dockerfile", ".dockerignore", "pyproject.toml", "README.md", "LICENSE")


def values(cluster: Cluster) -> Sequence[str]:
    """Helm's flags for this cluster. Missing images of this checkout are built and pushed first."""
    tag = _digest()
    for component in COMPONENTS:
        image = f"pantala/{component}:{tag}"
        if not exists(image):
            build(_PROJECT, component, image)
        prune(f"pantala/{component}", tag)
        cluster.push(image)
    mirrored = layout.REGISTRY_ADDRESSES
    realms = {layout.REGISTRIES["tokens"]: {"realms": [layout.HOST]}}
    return [
        f"--set=image.registry={cluster.registry}",
        f"--set-string=image.tag={tag}",
        f"--set=mirror.registries={{{','.join(f'http://{registry}' for registry in mirrored)}}}",
        f"--set-json=registries={json.dumps(realms)}",
        f"--set=peer.hostNetwork={str(layout.IPV6).lower()}",
        f"--set=sources.allowed={{{cluster.host}}}",
        "--set=monitoring.enabled=true",
        "--set=monitoring.dashboard.enabled=true",
    ]


def install(cluster: Cluster) -> str:
    """Install the chart, or upgrade the release that runs and keep its other values.

    Returns the namespace when the Peer of each node is Ready.
    """
    helm = (str(cluster.programs["helm"]), f"--kubeconfig={cluster.kubeconfig}")
    releases = json.loads(run(*helm, "list", "--all-namespaces", "--output=json"))
    namespace = next((str(each["namespace"]) for each in releases if each["name"] == "pantala"), NAMESPACE)
    run(
        *helm, "upgrade", "--install", "pantala", str(_CHART), f"--namespace={namespace}", "--create-namespace",
        "--reset-then-reuse-values", "--wait", "--timeout=5m", *values(cluster), timeout=330.0,
    )  # fmt: skip
    peers = [f"peers.pantala.dev/{node}" for node in cluster.nodes]
    for state in ("create", "condition=Ready"):  # the operator creates them shortly after the pods are ready
        cluster.kubectl("wait", f"--for={state}", "--timeout=60s", *peers)
    return namespace


def _digest() -> str:
    """The tag of the images: a digest of all files from which they are built."""
    paths = [_PROJECT / name for name in _FILES]
    for folder in _SOURCES:
        paths += [path for path in (_PROJECT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    state = hashlib.sha256()
    for path in sorted(paths):
        if path.exists():
            content = path.read_bytes()
            state.update(f"{path.relative_to(_PROJECT)} {len(content)}\n".encode() + content)
    return state.hexdigest()[:12]
