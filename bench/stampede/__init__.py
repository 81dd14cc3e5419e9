"""The scenario ``stampede``: nodes of a real cluster pull one image at once."""
