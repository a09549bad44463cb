"""Readers of other programs' logs, one file a format; `registry` recognises them."""
