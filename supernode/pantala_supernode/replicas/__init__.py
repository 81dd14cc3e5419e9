"""The other replicas: the membership, and how all replicas share one read of an origin."""
