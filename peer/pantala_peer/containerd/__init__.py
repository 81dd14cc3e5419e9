"""The files below containerd's ``certs.d`` that make it ask the mirror. containerd reads them at each pull."""
