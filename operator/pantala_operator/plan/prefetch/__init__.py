"""Plans ImagePrefetches and Tasks with images. Each module makes one decision, and ``plan`` joins them. Pure."""
