"""Origins: the interface for reading files, its HTTP client, and the limits and rules of reading."""
