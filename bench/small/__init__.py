"""The scenario ``small``: small files that the supernode has already."""
