"""The scenario ``origin``: the supernode reads one large file from nginx on loopback."""
