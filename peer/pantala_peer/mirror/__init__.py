"""The registry mirror: this node's containerd asks it before it asks the registry itself.

An error costs nothing, because containerd continues at the registry at once. A hang is fatal. So the mirror answers 404
in time for content that is missing or slow.
"""
