"""Origins: the port to read files, its HTTP client, and the limits and rules of reading."""
