"""The fault suite: it injects faults into the product in large numbers, and counts what they break."""
