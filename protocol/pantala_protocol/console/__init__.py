"""Messages that show people what happens now: progress from a supernode, and the views of the operator's console."""
