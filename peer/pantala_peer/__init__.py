"""The process on each node: it fetches pieces, verifies them, gives them to others and publishes whole files."""
