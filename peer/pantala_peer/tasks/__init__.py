"""Carries out assignments: keeps tasks, publishes files, and limits the disk space for blobs."""
