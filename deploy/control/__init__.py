"""The control loop and what keeps its time."""
