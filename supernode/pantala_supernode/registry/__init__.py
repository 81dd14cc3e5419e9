"""Container registries: what a tag means, what an image is made of, and its blobs as a source of the CDN."""
