"""The process on each node: it fetches pieces, verifies them, serves them to other nodes and publishes whole files."""
