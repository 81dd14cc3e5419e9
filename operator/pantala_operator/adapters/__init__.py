"""The adapters of the operator's ports: the API server, and the supernodes over HTTP."""
