"""Downloads the pieces of the supernodes' work, each from the provider that the work names."""
