"""Images by order: what the operator wants on this node is pulled once, looked after, and told of."""
