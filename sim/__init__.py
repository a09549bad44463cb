"""Environments by Gymnasium id, scripted experts that demonstrate in them, and an arm of our own."""
