"""Origins: the interface that reads files, its HTTP client, and the limits and rules of reading."""
