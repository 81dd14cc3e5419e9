"""Observes the cluster: watch, full lists, Secrets, workloads, and image registries through the supernodes."""
