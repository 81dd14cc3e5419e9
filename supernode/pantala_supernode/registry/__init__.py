"""Container registries: resolves images, checks access to them, and reads their blobs for the CDN."""
