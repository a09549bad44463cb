"""MJCF models of our own scenes."""
