"""Finds the supernodes, talks to them, and stores the report of each supernode."""
