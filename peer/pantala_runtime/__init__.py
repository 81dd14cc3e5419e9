"""The runtime helper: the only process of Pantala with the container runtime's socket. Callers name only images."""
