"""The supernode's cloud identity. AWS, Google and Azure exchange the pod's token for registry credentials."""
