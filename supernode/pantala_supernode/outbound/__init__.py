"""The outbound client sends all requests of the supernode to origins, registries and token servers, with libcurl."""
