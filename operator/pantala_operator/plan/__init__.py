"""Decides what each Task, ImagePrefetch and Peer should have, and what its status says. Pure."""
