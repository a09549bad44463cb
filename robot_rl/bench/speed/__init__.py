"""How fast: updates, data loading, importers and world models."""
