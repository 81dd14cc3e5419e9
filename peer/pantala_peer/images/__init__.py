"""Images by order. The node pulls each ordered image once, watches it and reports its state."""
