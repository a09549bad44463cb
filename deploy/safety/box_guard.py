"""Keeps the tool inside the workspace box when joints are commanded.

Braking joint i from speed v_i at acceleration a_i turns it by at most v_i^2 / 2a_i, which moves the tool by
at most lever_i times that. A command is let through only if its tool position lies further inside the box
than the sum of these. Then braking, at any later tick, ends inside the box: braking by one tick uses up as
much of the distance as it takes from the sum.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from deploy.safety.decision import Finding, Reason
from deploy.safety.kinematics import Kinematics, Point
from deploy.safety.limits import JointLimits, ToolLimits

AXES = "xyz"


class BoxGuard:
    """Judges joint commands by where they lead the tool.

    Args:
        kinematics: Where the tool is.
        tool: The box, its soft margin and the tool's speed.
        joints: Acceleration limits, which say how fast a joint brakes.
        dt: Control period, s.
    """

    def __init__(self, kinematics: Kinematics, tool: ToolLimits, joints: JointLimits, dt: float) -> None:
        self._tool_at = kinematics.tool_at
        self._corners = tuple(zip(tool.workspace_low.tolist(), tool.workspace_high.tolist(), strict=True))
        self._margin, self._speed, self._dt = tool.soft_margin, tool.speed, dt
        accelerations = joints.acceleration.tolist()
        sideways, up = kinematics.levers()
        self._reach = tuple((s / (2.0 * a), u / (2.0 * a)) for s, u, a in zip(sideways, up, accelerations, strict=True))
        self._at: Point = (0.0, 0.0, 0.0)  # where the last command leads the tool
        self._next: Point = self._at

    def start(self, joints: Sequence[float]) -> None:
        """Begin at joint positions, (J,), rad."""
        self._at = self._next = self._tool_at(joints)

    def fault(self, joints: Sequence[float], speeds: Sequence[float]) -> Finding | None:
        """What is wrong with commanding `joints`, (J,), rad, at `speeds`, (J,), rad/s; None where nothing is."""
        self._next = self._tool_at(joints)
        sideways = up = 0.0
        for (side, height), v in zip(self._reach, speeds, strict=True):
            square = v * v
            sideways += side * square
            up += height * square
        for i, (low, high) in enumerate(self._corners):
            need, at, before = (up if i == 2 else sideways), self._next[i], self._at[i]
            room = min(at - low, high - at)  # to the hard wall
            if room - self._margin >= need:
                continue
            no_worse = room >= min(before - low, high - before)
            outside = min(before - low, high - before) < 0.0
            if not (no_worse and (room >= need or outside)):
                return Finding(Reason.WORKSPACE, AXES[i], at, low if at - low < high - at else high)
        speed = math.dist(self._next, self._at) / self._dt
        return Finding(Reason.TOOL_SPEED, "tool", speed, self._speed) if speed > self._speed else None

    def commit(self, joints: Sequence[float] | None = None) -> None:
        """The judged command was sent; or `joints`, which were not judged."""
        self._at = self._next if joints is None else self._tool_at(joints)
