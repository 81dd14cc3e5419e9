"""The tasks: what is wanted, and the copies of the files. Pure."""
