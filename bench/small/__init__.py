"""The scenario ``small``: reads of small files that the supernode already has."""
