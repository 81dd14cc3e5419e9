"""The scenario ``control``: simulated clients send requests, and move no bytes."""
