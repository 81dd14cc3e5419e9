"""Container images: orders for nodes, manifests from registries, and leases on blobs."""
