"""What all processes share: names, sizes of pieces, digests and messages. Pure."""

__version__ = "0.1.0"
