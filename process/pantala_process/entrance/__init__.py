"""Accepts connections: limits for each address and in all, time limits for the first request, and back-off."""
