"""The routes for Dragonfly's clients, and Dragonfly's REST API. Only ``app`` imports this package."""
