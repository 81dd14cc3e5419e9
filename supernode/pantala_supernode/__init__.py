"""The supernode reads origins, stores files, and decides which peer fetches which piece from which provider."""
