"""The swarms: the peers of each task, and which peer takes which piece from which provider. Pure."""
