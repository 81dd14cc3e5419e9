"""The tasks that this node must hold, carried out: pieces fetched, files published, blobs kept within their limit."""
