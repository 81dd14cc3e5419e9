"""Carries out orders: the node pulls each ordered image once, checks that it stays, and reports its state."""
