"""The exchange with the peers, and the feed of changes for the operator."""
