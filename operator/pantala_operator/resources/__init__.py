"""The Kubernetes resources that the operator reads and writes, their conditions and quantities. Pure."""
