"""Pieces on a disk, and the server that sends them. The supernode and the peer share it."""
