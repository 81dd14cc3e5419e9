"""The supernode's HTTP interfaces."""
