"""Downloads pieces from other peers and from the supernodes. It decides nothing: the supernodes give the work."""
