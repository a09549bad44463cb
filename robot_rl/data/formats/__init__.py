"""Readers of other programs' logs, one file or room a format; `registry` recognises them."""
