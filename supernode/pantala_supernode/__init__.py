"""The supernode: it reads origins, stores files, and schedules which peer fetches which piece from where."""
