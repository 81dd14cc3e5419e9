"""The cluster's folders, names and addresses. A machine has at most one cluster.

With ``PANTALA_TESTBED_IPV6=1`` the cluster has only IPv6: no node, pod or Service has an IPv4 address.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

STATE: Final = Path("/run/pantala-testbed")
"""The folder of process IDs, keys, configuration and logs."""

TURN: Final = Path("/run/pantala-testbed.lock")
"""The lock of the process that uses the cluster. It is outside of :data:`STATE`, which is removed with the cluster."""

DATA: Final = Path("/var/lib/pantala-testbed")
"""The folder of large data: the nodes' disks, volumes, etcd and the registry. /run is often in memory."""

BRIDGE: Final = "pantbr0"
IPV6: Final = os.environ.get("PANTALA_TESTBED_IPV6") == "1"
PREFIX: Final = "fd78::" if IPV6 else "10.78.0."
"""The start of the addresses of machine and nodes."""

PREFIX_LENGTH: Final = 64 if IPV6 else 24
EVERYWHERE: Final = "::/0" if IPV6 else "0.0.0.0/0"


def at(host: str, port: int) -> str:
    """``host:port``, as URLs and names of images have it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


HOST: Final = f"{PREFIX}1"
"""The machine's address as nodes and pods see it. API server, DNS, registry and the tests' origins listen there."""

API_PORT: Final = 6444
SERVER: Final = f"https://{at(HOST, API_PORT)}"
REGISTRY: Final = "registry.testbed:5078" if IPV6 else at(HOST, 5078)
"""The registry's host in the names of images. Older tools cannot read IPv6 addresses in these names."""

REGISTRIES: Final = {
    name: f"{name}.testbed:5000" if IPV6 else at(f"{PREFIX}{number}", 5000)
    for number, name in enumerate(("site", "private", "tokens"), start=2)
}
"""More registries, each on its own host. They run only while a test uses them."""

REGISTRY_ADDRESSES: Final = {
    REGISTRY: at(HOST, 5078),
    **{host: at(f"{PREFIX}{number}", 5000) for number, host in enumerate(REGISTRIES.values(), start=2)},
}
"""The address and port of each registry by its name."""

NAMES: Final = {
    "files.testbed": HOST,
    "registry.testbed": HOST,
    **{f"{name}.testbed": f"{PREFIX}{number}" for number, name in enumerate(REGISTRIES, start=2)},
}
"""The cluster's DNS and the nodes have these names."""

HOSTS: Final = STATE / "hosts"
"""The file with :data:`NAMES`."""

POD_NETWORK: Final = "fd00:245::/48" if IPV6 else "10.245.0.0/16"
SERVICE_NETWORK: Final = "fd00:97::/112" if IPV6 else "10.97.0.0/16"
API_SERVICE: Final = "fd00:97::1" if IPV6 else "10.97.0.1"
DNS_SERVICE: Final = "fd00:97::10" if IPV6 else "10.97.0.10"
STORAGE_CLASS: Final = "local"
PAUSE_IMAGE: Final = "localhost/pause:v1"
KUBECONFIG: Final = STATE / "admin.kubeconfig"

OWN: Final = (
    "/run/netns", "/run/containerd", "/etc/containerd", "/etc/cni", "/var/lib/containerd", "/var/lib/kubelet",
    "/var/lib/cni", "/var/log/pods", "/var/log/containers", "/var/lib/pantala",
)  # fmt: skip
"""The folders of which each node has its own copy. All nodes share all other folders of the file system."""


@dataclass(frozen=True, order=True)
class NodePlace:
    """The names, addresses and folders that follow from a node's number."""

    number: int

    @classmethod
    def named(cls, name: str) -> Self:
        """The place of ``node<number>``. Raises :class:`ValueError`."""
        number = name.removeprefix("node")
        if number == name or not number.isdecimal() or not 1 <= int(number) <= 200:
            raise ValueError(f"{name} is not a node. Nodes are named node1, node2, ...")
        return cls(int(number))

    @property
    def name(self) -> str:
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
        return f"{PREFIX}{10 + self.number}"

    @property
    def pods(self) -> str:
        """The subnet of the node's pods."""
        return f"fd00:245:0:{self.number}::/64" if IPV6 else f"10.245.{self.number}.0/24"

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
