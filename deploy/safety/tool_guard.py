"""Normalised tool deltas that respect action bounds, speed and the workspace box."""

from __future__ import annotations

import math

import numpy as np

from deploy.safety.decision import Finding, Reason
from deploy.safety.limits import JointLimits, ToolLimits, Vector

SLOWEST = 0.1  # share of full speed that is left where a joint touches its limit
GRIPPER = 6


class ToolGuard:
    """Limits actions of translation (3), rotation (3) and gripper (1), each in [-1, 1].

    Args:
        tool: Tool limits.
        joints: Joint limits; near one the tool slows down.
        dt: Control period, s.
    """

    def __init__(self, tool: ToolLimits, joints: JointLimits, dt: float) -> None:
        self._tool, self._joints = tool, joints
        self._step = tool.speed * dt  # m
        self._turn = tool.turn_rate * dt  # rad
        self.action = np.zeros(GRIPPER + 1)  # last command, (7,)

    def start(self) -> None:
        """Forget the past: stand still, leave the gripper as it is."""
        self.action[:] = 0.0

    def advance(self, asked: Vector, position: Vector, joints: Vector, speed_share: float) -> tuple[Finding, ...]:
        """Turn `asked`, (7,), finite, into the next command.

        Args:
            asked: Wanted action.
            position: Measured tool position, (3,), m.
            joints: Measured joint positions, (J,), rad.
            speed_share: Share of the speed limits in force, in (0, 1].
        """
        found: list[Finding] = []
        action = self.action
        np.clip(asked, -1.0, 1.0, out=action)
        for i in np.flatnonzero(action != asked):
            found.append(Finding(Reason.ACTION_BOUNDS, f"action {i}", float(asked[i]), float(action[i])))
        self._keep_inside(action, position, found)
        share = speed_share * self._near_joint_limit(joints, found)
        step, turn = self._step / self._tool.metres_per_unit, self._turn / self._tool.radians_per_unit
        found += _limit_norm(action[:3], step, share, "translation")
        found += _limit_norm(action[3:6], turn, share, "rotation")
        return tuple(found)

    def brake(self) -> None:
        """Ask for no motion; the gripper keeps what it was told last."""
        self.action[:GRIPPER] = 0.0

    @property
    def at_rest(self) -> bool:
        """Whether the last command asked for no motion."""
        return not self.action[:GRIPPER].any()

    def _keep_inside(self, action: Vector, position: Vector, found: list[Finding]) -> None:
        tool, scale = self._tool, self._tool.metres_per_unit
        goal = position + scale * action[:3]
        inside = np.clip(goal, tool.workspace_low, tool.workspace_high)
        for i in np.flatnonzero(inside != goal):
            action[i] = np.clip((inside[i] - position[i]) / scale, -1.0, 1.0)
            found.append(Finding(Reason.WORKSPACE, "xyz"[i], float(goal[i]), float(inside[i])))

    def _near_joint_limit(self, joints: Vector, found: list[Finding]) -> float:
        limits = self._joints
        if limits.soft_margin == 0:
            return 1.0
        room = np.minimum(joints - limits.low, limits.high - joints)
        worst = int(room.argmin())
        if room[worst] >= limits.soft_margin:
            return 1.0
        bound = limits.low if joints[worst] - limits.low[worst] < limits.high[worst] - joints[worst] else limits.high
        found.append(Finding(Reason.POSITION, limits.names[worst], float(joints[worst]), float(bound[worst])))
        return max(SLOWEST, float(room[worst]) / limits.soft_margin)


def _limit_norm(part: Vector, most: float, share: float, where: str) -> list[Finding]:
    """Shorten `part`, in action units, to `share` of its limit `most`; direction is kept."""
    asked = math.sqrt(float(part @ part))
    if asked <= most * share * (1 + 1e-9):
        return []
    part *= most * share / asked
    reason = Reason.TOOL_SPEED if asked > most else Reason.FIRST_COMMANDS
    return [Finding(reason, where, asked, most * share)]
