"""Mutual TLS between the processes: their keys and certificates, and the contexts for connections."""
