"""Where pictures of an episode are, and how they are decoded on demand."""
