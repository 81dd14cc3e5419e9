"""The sending half of the transfer engine: threads that serve pieces."""
