"""The peer, Pantala's process on each node. It fetches, verifies and serves pieces, and publishes complete files."""
