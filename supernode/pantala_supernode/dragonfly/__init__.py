"""Dragonfly's clients and REST API. No other package but ``app`` imports this one."""
