"""The runtime helper: the only process of Pantala that uses the container runtime's socket."""
