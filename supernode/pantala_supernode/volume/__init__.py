"""The volume: its identity, and the eviction of copies that no task wants."""
