"""Lists and removes the images of a node's containerd, through the CRI like the kubelet."""

import re
from collections.abc import Set

from testbed.cluster.cluster import Cluster

CTR = ("ctr", "--namespace=k8s.io")
_REF = re.compile(r"^(\S+)\s+\S+\s+(sha256:[0-9a-f]{64})\s", re.MULTILINE)


def images(cluster: Cluster, node: str) -> dict[str, str]:
    """The digests of a node's images, by name."""
    return dict(_REF.findall(cluster.enter(node, *CTR, "images", "list")))


def forget(cluster: Cluster, digests: Set[str]) -> None:
    """Remove all names of the images with these digests from all nodes, so that no data stays."""
    for node in cluster.nodes:
        names = [name for name, digest in images(cluster, node).items() if digest in digests]
        if names:
            cluster.enter(node, *CTR, "images", "remove", "--sync", *names, check=False)
