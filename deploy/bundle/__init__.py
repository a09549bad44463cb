"""An exported policy: its contract, export with proof, and running it."""
