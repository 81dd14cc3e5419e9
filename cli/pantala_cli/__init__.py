"""``kubectl pantala`` shows and controls Pantala from the command line."""
