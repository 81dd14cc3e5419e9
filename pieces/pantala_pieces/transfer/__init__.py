"""Threads that receive and send pieces. The event loop decides which pieces they receive, and from which provider."""
