"""The commands that live in this package."""
