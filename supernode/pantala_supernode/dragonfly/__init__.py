"""Dragonfly's clients: the paths that dfget speaks, translated to the managers."""
