"""The supervisor between policy and driver: the same object in simulation and on hardware."""
