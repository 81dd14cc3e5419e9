"""Pure plans: from what is wanted and observed to what is to be done."""
