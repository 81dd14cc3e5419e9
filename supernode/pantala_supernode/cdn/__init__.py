"""The CDN reads origins, and keeps copies of their files on the volume."""
