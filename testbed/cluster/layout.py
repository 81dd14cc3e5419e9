"""The cluster's folders, names and addresses. A machine has at most one cluster."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

STATE: Final = Path("/run/pantala-testbed")
"""The folder of process IDs, keys, configuration and logs."""

TURN: Final = Path("/run/pantala-testbed.lock")
"""The lock of the process that uses the cluster. It is outside of :data:`STATE`, which is removed with the cluster."""

DATA: Final = Path("/var/lib/pantala-testbed")
"""The folder of large data: the nodes' disks, volumes, etcd and the registry. /run is often in memory."""

BRIDGE: Final = "pantbr0"
HOST: Final = "10.78.0.1"
"""The machine's address as nodes and pods see it. API server, DNS, registry and the tests' origins listen there."""

API_PORT: Final = 6444
SERVER: Final = f"https://{HOST}:{API_PORT}"
REGISTRY: Final = f"{HOST}:5078"
REGISTRIES: Final = {"site": "10.78.0.2:5000", "private": "10.78.0.3:5000", "tokens": "10.78.0.4:5000"}
"""The addresses of further registries, each on its own host. They run only while a test uses them."""

POD_NETWORK: Final = "10.245.0.0/16"
SERVICE_NETWORK: Final = "10.97.0.0/16"
API_SERVICE: Final = "10.97.0.1"
DNS_SERVICE: Final = "10.97.0.10"
STORAGE_CLASS: Final = "local"
PAUSE_IMAGE: Final = "localhost/pause:v1"
KUBECONFIG: Final = STATE / "admin.kubeconfig"

OWN: Final = (
    "/run/netns",
    "/run/containerd",
    "/etc/containerd",
    "/etc/cni",
    "/var/lib/containerd",
    "/var/lib/kubelet",
    "/var/lib/cni",
    "/var/log/pods",
    "/var/log/containers",
    "/var/lib/pantala",
)
"""The folders of which each node has its own copy. All nodes share the rest of the file system."""


@dataclass(frozen=True, order=True)
class NodePlace:
    """The names, addresses and folders that follow from a node's number."""

    number: int

    @classmethod
    def named(cls, name: str) -> NodePlace:
        """The place of ``node<number>``. Raises :class:`ValueError`."""
        number = name.removeprefix("node")
        if number == name or not number.isdecimal() or not 1 <= int(number) <= 200:
            raise ValueError(f"{name} is not a node. Nodes are named node1, node2, ...")
        return cls(int(number))

    @property
    def name(self) -> str:
        """The node's name in Kubernetes."""
        return f"node{self.number}"

    @property
    def network_namespace(self) -> str:
        """The name of the node's network namespace, and of its control groups."""
        return f"pantala-{self.name}"

    @property
    def link(self) -> str:
        """The network device at the machine's end of the node's link."""
        return f"pant{self.number}"

    @property
    def address(self) -> str:
        return f"10.78.0.{10 + self.number}"

    @property
    def pods(self) -> str:
        """The subnet of the node's pods."""
        return f"10.245.{self.number}.0/24"

    @property
    def disk(self) -> Path:
        """The folder with the node's own copies of the folders in :data:`OWN`."""
        return DATA / "nodes" / self.name

    @property
    def settings(self) -> Path:
        """The folder of the node's configuration files."""
        return STATE / self.name

    def path(self, path: str) -> Path:
        """The machine's path for one of the node's own paths, e.g. ``/var/lib/pantala/files``."""
        return self.disk / path.lstrip("/")
