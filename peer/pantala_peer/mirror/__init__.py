"""The registry mirror: what this node's containerd asks before it asks the registry itself.

An error is free, for containerd goes on to the registry at once; a hang is fatal. So what is missing or slow is a 404
in time.
"""
