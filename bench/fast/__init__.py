"""The scenario ``fast``: peers download one large file over loopback."""
