"""The supernode's own HTTP interface, for the operator, peers and replicas."""
