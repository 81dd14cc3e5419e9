"""The tasks: which files are desired, and the state of each copy. Pure."""
