"""The registry mirror: this node's containerd asks it before it asks the registry itself.

After an error containerd continues at the registry at once, but during a hang it waits. So the mirror answers 404
in time for content that is missing or slow.
"""
