"""The supernode: tracker, scheduler and CDN; the only process that talks to origins."""
