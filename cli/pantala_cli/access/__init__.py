"""How the command reaches the API server and the operator's console, with the user's own rights."""
