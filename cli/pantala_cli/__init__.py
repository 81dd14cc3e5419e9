"""kubectl-pantala: see and steer Pantala's Tasks from the command line."""
