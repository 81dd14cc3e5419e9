"""Carries out orders. The peer pulls each ordered image once, checks that the image stays, and reports its state."""
