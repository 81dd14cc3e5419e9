"""The scenario ``data``: peers download one file over slow links."""
