"""The operator: watches Tasks, tells the supernode what is wanted, writes what became of it."""
