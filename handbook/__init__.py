"""Makes the pages of the documentation that come from the code, and builds the site."""
