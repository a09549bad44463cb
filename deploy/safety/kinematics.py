"""Where the tool is, from joint positions: the check of commands against the workspace box needs it.

Modified Denavit-Hartenberg parameters (Craig, "Introduction to Robotics", ch. 3): frame i is reached from
frame i-1 by Rx(alpha) Tx(a) Rz(theta) Tz(d). Plain floats: one tool position takes a few microseconds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from robot_rl.errors import ConfigError

Point = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Kinematics:
    """A chain of revolute joints.

    Args:
        dh: a (m), alpha (rad) and d (m) of each joint.
        tool: Tool point in the frame of the last joint, m.
    """

    dh: tuple[Point, ...]
    tool: Point = (0.0, 0.0, 0.0)
    _rows: tuple[tuple[float, float, float, float], ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, (*self.tool, *(v for row in self.dh for v in row)))):
            raise ConfigError("kinematics: every dh value and the tool offset must be finite.")
        rows = tuple((a, _clean(math.cos(alpha)), _clean(math.sin(alpha)), d) for a, alpha, d in reversed(self.dh))
        object.__setattr__(self, "_rows", rows)

    def tool_at(self, joints: Sequence[float]) -> Point:
        """Tool point in the frame of the base, m.

        Args:
            joints: Joint positions, (J,), rad.
        """
        x, y, z = self.tool
        cos, sin = math.cos, math.sin
        for (a, ca, sa, d), theta in zip(self._rows, reversed(joints), strict=True):
            c, s = cos(theta), sin(theta)
            x, y, z = c * x - s * y + a, s * x + c * y, z + d
            y, z = ca * y - sa * z, sa * y + ca * z
        return x, y, z

    def levers(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """How far a radian of each joint can move the tool at most, m: sideways and in height.

        The distance from joint i's axis to the tool is at most the length of the links behind it. A
        first joint with a vertical axis moves nothing up or down.
        """
        reach, beyond = [math.hypot(self.tool[0], self.tool[1])], math.hypot(*self.tool)
        for a, _, d in reversed(self.dh[1:]):
            beyond += math.hypot(a, d)
            reach.append(beyond)
        sideways = tuple(reversed(reach))
        upright = self.dh[0][1] == 0.0
        return sideways, ((0.0, *sideways[1:]) if upright else sideways)


def _clean(value: float) -> float:
    """cos(pi/2) is 6e-17 in floats; the datasheet means 0."""
    return 0.0 if abs(value) < 1e-12 else value
