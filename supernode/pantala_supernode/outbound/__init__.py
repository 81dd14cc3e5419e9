"""The outbound client: every request of the supernode to origins, registries and token servers, on libcurl."""
