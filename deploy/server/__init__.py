"""The policy server: observations of other processes in, actions out."""
