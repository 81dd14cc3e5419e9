"""The exchanges with the supernodes: reports to them, assignments and work from them."""
