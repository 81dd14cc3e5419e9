"""Pieces on a disk, and their serving over HTTP. The supernode and the peer both do it, in the same way."""
