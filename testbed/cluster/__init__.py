"""A real multi-node Kubernetes cluster on one Linux machine, in network namespaces, without a container runtime's hub.

Each node is a real kubelet, containerd and kube-proxy with the usual paths to itself. Needs root on Debian.
``python -m testbed.cluster`` on a command line, :class:`testbed.cluster.Cluster` in a test.
"""

from testbed.cluster.cluster import Cluster
from testbed.cluster.command import CommandError

__all__ = ["Cluster", "CommandError"]
