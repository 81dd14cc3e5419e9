"""The control loop, its controllers and the writer. They decide when to plan, make the plans and write the results."""
