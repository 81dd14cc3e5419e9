"""The supernode's HTTP interface for the operator, peers and replicas. ``dragonfly`` has the other routes."""
