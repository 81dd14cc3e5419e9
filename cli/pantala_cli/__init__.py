"""kubectl-pantala shows and controls Pantala's Tasks from the command line."""
