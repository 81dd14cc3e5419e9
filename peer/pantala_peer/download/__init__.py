"""Downloads the pieces that the supernodes name, each from the provider that the supernodes name."""
