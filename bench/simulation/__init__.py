"""Runs the real scheduler and the real exchange for thousands of peers, in virtual time and over modelled links."""
