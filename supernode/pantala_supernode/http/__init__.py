"""The supernode's native HTTP interface."""
