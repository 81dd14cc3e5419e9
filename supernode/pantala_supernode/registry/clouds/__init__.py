"""The supernode's identity in a cloud. AWS, Google and Azure exchange a token of the pod for registry credentials."""
