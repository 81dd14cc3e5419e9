"""The other supernodes: the membership, and how all of them share one read of an origin."""
