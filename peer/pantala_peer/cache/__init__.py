"""The pieces on this node's disk, and the files that are published from them."""
