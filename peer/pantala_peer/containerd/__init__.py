"""The files below ``certs.d`` that make containerd ask the mirror. containerd reads them at each pull."""
