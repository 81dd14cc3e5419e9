"""A real multi-node Kubernetes cluster on one Linux machine, in network namespaces.

Each node has its own kubelet, containerd and kube-proxy, with the usual paths. Needs root on Debian. Use ``python -m
testbed.cluster`` on a command line, and :class:`testbed.cluster.Cluster` in a test.
"""

from testbed.cluster.cluster import Cluster
from testbed.cluster.command import CommandError

__all__ = ["Cluster", "CommandError"]
