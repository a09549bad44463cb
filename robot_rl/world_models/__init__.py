"""World models: what they predict, how far to trust them, and how their predictions enter training."""
