"""Sockets that reach further than this machine: addresses, keys, who may come in."""
