"""Watching, by kopf: thin handlers that put what they see into an inbox."""
