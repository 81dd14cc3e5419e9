"""The exchanges with the supernodes: the peer sends reports, and gets assignments and work."""
