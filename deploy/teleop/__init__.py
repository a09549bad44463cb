"""Devices with which a person drives an environment or an arm: keyboard, gamepad, SpaceMouse."""
