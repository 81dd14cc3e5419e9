"""The ground that all processes share: names, piece geometry, digests and messages. Pure."""

__version__ = "0.1.0"
