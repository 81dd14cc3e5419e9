"""The registry mirror, which this node's containerd asks before it asks the registry.

After an error, containerd continues at the registry at once. But if the mirror does not answer, containerd waits. So
the mirror answers 404 in time for content that is missing or slow.
"""
