"""What all processes share: names, piece geometry, digests and messages. Without input and output."""

__version__ = "0.1.0"
