"""The results of the scenarios, and how they are written: JSON, tables and plots."""
