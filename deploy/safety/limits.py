"""What an arm must never be asked to exceed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from deploy.safety.kinematics import Kinematics
from robot_rl.errors import ConfigError

Vector = NDArray[np.float64]
Overrun = Literal["skip", "hold", "stop"]


@dataclass(frozen=True, eq=False, kw_only=True)
class JointLimits:
    """Joint limits; commands stay a margin and a share inside them.

    Args:
        names: Joint names, in the arm's order.
        low: Lowest positions, (J,), rad.
        high: Highest positions, (J,), rad.
        velocity: Highest speeds, (J,), rad/s.
        acceleration: Highest accelerations, (J,), rad/s^2.
        soft_margin: How far inside `low` and `high` commands stay, rad.
        velocity_share: Share of `velocity` that commands may use, in (0, 1].
        jerk: Highest change of acceleration, (J,), rad/s^3; None for no limit. Kept wherever the other
            limits leave the choice: a joint that has to brake in front of one brakes.
    """

    names: tuple[str, ...]
    low: Vector
    high: Vector
    velocity: Vector
    acceleration: Vector
    soft_margin: float
    velocity_share: float = 1.0
    jerk: Vector | None = None

    def __post_init__(self) -> None:
        keys = ("velocity", "acceleration") if self.jerk is None else ("velocity", "acceleration", "jerk")
        for key in ("low", "high", *keys):
            value = _frozen(getattr(self, key), key, len(self.names))
            object.__setattr__(self, key, value)
        for i, name in enumerate(self.names):
            room = self.high[i] - self.low[i]
            if not room > 2 * self.soft_margin >= 0:
                raise ConfigError(
                    f"{name}: positions {self.low[i]:g} to {self.high[i]:g} rad leave no room for a soft "
                    f"margin of {self.soft_margin:g} rad on each side. Correct the limits or lower it."
                )
            for key in keys:
                if not getattr(self, key)[i] > 0:
                    raise ConfigError(f"{name}: {key} is {getattr(self, key)[i]:g}; it must be above 0.")
        if not 0 < self.velocity_share <= 1:
            raise ConfigError(f"velocity_share is {self.velocity_share:g}; it must be in (0, 1].")


@dataclass(frozen=True, eq=False, kw_only=True)
class ToolLimits:
    """Limits of tool motion, in the frame of the tool actions.

    Args:
        workspace_low: Lower corner of the box the tool stays in, (3,), m.
        workspace_high: Upper corner, (3,), m.
        speed: Highest tool speed, m/s.
        turn_rate: Highest rate of turn, rad/s.
        metres_per_unit: Translation that an action of 1 asks for in one step, m.
        radians_per_unit: Rotation that an action of 1 asks for in one step, rad.
        soft_margin: How far inside the box joint commands keep the tool, m; inside it they may only lead out.
    """

    workspace_low: Vector
    workspace_high: Vector
    speed: float
    turn_rate: float
    metres_per_unit: float
    radians_per_unit: float
    soft_margin: float = 0.0

    def __post_init__(self) -> None:
        for key in ("workspace_low", "workspace_high"):
            object.__setattr__(self, key, _frozen(getattr(self, key), key, 3))
        for axis, low, high in zip("xyz", self.workspace_low, self.workspace_high, strict=True):
            if not low < high:
                raise ConfigError(f"workspace: {axis} runs from {low:g} to {high:g} m; swap the corners.")
            if not high - low > 2 * self.soft_margin >= 0:
                raise ConfigError(
                    f"workspace: {axis} from {low:g} to {high:g} m leaves no room for a soft margin of "
                    f"{self.soft_margin:g} m on each side. Lower it."
                )
        for key in ("speed", "turn_rate", "metres_per_unit", "radians_per_unit"):
            if not getattr(self, key) > 0:
                raise ConfigError(f"tool: {key} is {getattr(self, key):g}; it must be above 0.")


@dataclass(frozen=True, kw_only=True)
class GripperLimits:
    """A gripper that takes widths, as the last number of a joint action.

    Args:
        low: Smallest width, m.
        high: Largest width, m.
        speed: Highest speed of the commanded width, m/s.
    """

    low: float
    high: float
    speed: float

    def __post_init__(self) -> None:
        if not (0 <= self.low < self.high and self.speed > 0):
            raise ConfigError(
                f"gripper: width runs from {self.low:g} to {self.high:g} m (0 or more, rising) at {self.speed:g} m/s "
                f"(above 0): correct the one that is out of range."
            )


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Everything the supervisor needs to know about an arm.

    Args:
        control: "joint_position" (action: joint targets, rad) or "osc_pose" (action: normalised tool delta
            of six numbers and a gripper, in [-1, 1]).
        rate_hz: Rate of commands, Hz.
        joints: Joint limits.
        tool: Tool limits; needed for "osc_pose".
        stale_after_s: Oldest usable measurement, s.
        ramp_s: Time after arming over which the allowed speed grows from a tenth to all, s.
        stop_after_bad: Ticks in a row without usable numbers after which the stop latches.
        kinematics: Where the tool is; with it and `tool`, joint commands keep the tool inside the box.
        gripper: Limits of the last action of "joint_position"; None where it has no gripper.
        overrun: After a missed deadline: "skip" goes on at the next, "hold" holds for a tick, "stop" latches.
        policy_timeout_s: A tick that takes longer makes the watchdog hold the arm, s; 0 for no watchdog.
        operator_timeout_s: Longest silence of the operator's station before the arm holds, s; 0 for any.
    """

    control: str
    rate_hz: float
    joints: JointLimits
    tool: ToolLimits | None
    stale_after_s: float
    ramp_s: float
    stop_after_bad: int
    kinematics: Kinematics | None = None
    gripper: GripperLimits | None = None
    overrun: Overrun = "skip"
    policy_timeout_s: float = 0.0
    operator_timeout_s: float = 0.0

    def __post_init__(self) -> None:
        if self.kinematics is not None and len(self.kinematics.dh) != len(self.joints.names):
            raise ConfigError(
                f"dh is given for {len(self.kinematics.dh)} of {len(self.joints.names)} joints; give all or none."
            )
        if not self.policy_timeout_s >= 0 or not self.operator_timeout_s >= 0:
            raise ConfigError(
                f"policy_timeout_s is {self.policy_timeout_s:g}, operator_timeout_s {self.operator_timeout_s:g}; "
                f"both must be 0 (off) or more."
            )
        if self.control not in ("joint_position", "osc_pose"):
            raise ConfigError(f"control is '{self.control}'; the supervisor knows joint_position and osc_pose.")
        if self.control == "osc_pose" and self.tool is None:
            raise ConfigError("control is 'osc_pose', which needs a section 'tool' with workspace and speeds.")
        if not self.rate_hz > 0:
            raise ConfigError(f"rate_hz is {self.rate_hz:g}; it must be above 0.")
        if not self.stale_after_s > 0 or not self.ramp_s >= 0 or self.stop_after_bad < 1:
            raise ConfigError(
                f"stale_after_s is {self.stale_after_s:g} (above 0), ramp_s {self.ramp_s:g} (0 or more), "
                f"stop_after_bad {self.stop_after_bad} (1 or more): correct the one that is out of range."
            )


def _frozen(value: Vector, key: str, size: int) -> Vector:
    array = np.array(value, np.float64)
    if array.shape != (size,) or not np.isfinite(array).all():
        raise ConfigError(f"{key} is {value}; it needs {size} finite numbers.")
    array.setflags(write=False)
    return array
