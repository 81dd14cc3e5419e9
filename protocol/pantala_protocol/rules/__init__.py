"""Rules for data from outside: JSON of other programs, header values, paths and URLs. All processes use them."""
