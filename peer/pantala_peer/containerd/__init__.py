"""The node's containerd is told of the mirror by files below its ``certs.d``, which it reads at each pull."""
