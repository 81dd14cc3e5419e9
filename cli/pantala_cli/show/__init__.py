"""Turns resources and the console's answers into tables, bars and text. Pure, except for the terminal."""
