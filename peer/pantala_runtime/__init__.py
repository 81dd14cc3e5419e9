"""The runtime helper: alone on its node it has the container runtime's socket, and it takes image names only."""
