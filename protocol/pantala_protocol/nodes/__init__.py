"""Sets of nodes, and messages that name each node once."""
