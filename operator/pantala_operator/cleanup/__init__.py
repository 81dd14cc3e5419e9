"""Ends an uninstall: waits until the nodes are restored."""
