"""The tasks: which files are wanted, and the state of each copy. Pure: no input or output."""
