"""The supernode's identity in a cloud: token files that registries of AWS, Google and Azure accept in exchange."""
