"""Measurements of what `deploy` promises."""
