"""Carries out what the supernodes assign: keeps tasks, publishes files, and limits the room for blobs."""
