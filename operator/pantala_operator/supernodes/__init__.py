"""Finds the supernodes, talks to them, and knows what each reported."""
