"""Several supernodes: their membership, and how they share one read of an origin."""
