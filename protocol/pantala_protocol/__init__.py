"""What Pantala's processes agree on: names, piece geometry, digests and messages. Pure."""

__version__ = "0.1.0"
