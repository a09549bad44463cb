"""Command-line verbs of the simulation side."""
