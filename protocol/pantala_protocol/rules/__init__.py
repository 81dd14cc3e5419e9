"""Rules for what comes from outside. All processes keep them, so each one is stated here and nowhere else."""
