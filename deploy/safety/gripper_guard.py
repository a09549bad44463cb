"""Gripper widths that respect range and speed."""

from __future__ import annotations

from deploy.safety.decision import Finding, Reason
from deploy.safety.limits import GripperLimits


class GripperGuard:
    """Follows an asked width.

    Args:
        limits: Range and speed.
        dt: Control period, s.
    """

    def __init__(self, limits: GripperLimits, dt: float) -> None:
        self._limits, self._step = limits, limits.speed * dt
        self.width = limits.low  # last command, m

    def start(self, measured: float) -> None:
        """The last command is the measured width, m."""
        self.width = min(max(measured, self._limits.low), self._limits.high)

    def advance(self, asked: float) -> list[Finding]:
        """Move the command towards `asked`, m, finite, for one period."""
        aim = min(max(asked, self._limits.low), self._limits.high)
        self.width = min(max(aim, self.width - self._step), self.width + self._step)
        return [] if self.width == asked else [Finding(Reason.GRIPPER, "gripper", asked, self.width)]
