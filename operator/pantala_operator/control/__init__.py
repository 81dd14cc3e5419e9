"""Decides when to plan, plans, and writes the results: the control loop, its controllers and the writer."""
