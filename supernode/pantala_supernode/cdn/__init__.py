"""The CDN: reads origins and keeps the copies of files on the volume."""
