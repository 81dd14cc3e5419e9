"""Measures a swarm on shaped links against the physical limit and against direct downloads. Needs root."""
