"""Reading logs into datasets."""
