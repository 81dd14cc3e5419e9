"""The certificate authority of all processes: its keys, its rotation, and the endpoint that signs certificates."""
