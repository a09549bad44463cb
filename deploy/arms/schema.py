"""What an arm's file may say, and the limits that follow from it."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import numpy as np
import yaml

from deploy.safety.kinematics import Kinematics
from deploy.safety.limits import GripperLimits, JointLimits, Limits, Overrun, ToolLimits

Triple = tuple[float, float, float]
Interpolation = Literal["step", "linear", "min_jerk", "ruckig"]


class JointConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One joint, as its datasheet gives it."""

    name: str
    position: tuple[float, float]  # lowest and highest, rad
    velocity: float  # highest speed, rad/s
    acceleration: float  # rad/s^2
    jerk: float | None = None  # rad/s^3; none: unlimited
    dh: Triple | None = None  # modified Denavit-Hartenberg a (m), alpha (rad), d (m)


class ToolConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits of the tool's motion."""

    workspace_low_m: Triple  # corner of the box the tool stays in
    workspace_high_m: Triple
    speed_m_s: float
    turn_rate_rad_s: float
    soft_margin_m: float = 0.0  # how far inside the box joint commands keep the tool
    offset_m: Triple = (0.0, 0.0, 0.0)  # tool point in the frame of the last joint, for dh
    metres_per_unit: float = 1.0  # translation an action of 1 asks for in a step
    radians_per_unit: float = 1.0


class GripperConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A gripper that takes widths as the last number of a joint action."""

    width_m: tuple[float, float]  # smallest and largest
    speed_m_s: float


class ArmConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An arm: how to reach it and what it must not exceed."""

    name: str
    driver: str  # an entry point in the group robot_rl.arms
    source: str  # datasheet of the joint limits
    rate_hz: float  # of policies
    control: str  # "joint_position" or "osc_pose"
    joints: tuple[JointConfig, ...]
    soft_margin_rad: float  # how far inside the position limits commands stay
    velocity_share: float  # share of the joint speed limits that commands may use
    stale_after_s: float  # oldest usable measurement
    ramp_s: float  # after arming, the allowed speed grows from a tenth to all
    stop_after_bad: int  # policy steps in a row without usable numbers
    command_rate_hz: float = 0.0  # of commands, a multiple of rate_hz; 0: the same
    interpolation: Interpolation = "linear"  # from one policy action to the next, where commands are faster
    overrun: Overrun = "skip"  # after a missed deadline: go on, hold for a tick, or stop
    policy_timeout_s: float = 0.0  # a longer tick makes the watchdog hold the arm; 0: no watchdog
    operator_timeout_s: float = 0.0  # longest silence of the operator's station; 0: any
    env: str = ""  # Gymnasium id, for simulated arms
    home: tuple[float, ...] = ()  # a pose to start from, rad
    tool: ToolConfig | None = None
    gripper: GripperConfig | None = None
    options: dict[str, Any] = {}  # what the driver needs: address, gains, thresholds

    @property
    def commands_per_step(self) -> int:
        """Commands sent for each policy action."""
        return round(self.command_rate_hz / self.rate_hz) if self.command_rate_hz else 1

    def at_rate(self, rate_hz: float) -> ArmConfig:
        """The same arm with policies at another rate, and time limits that fit it."""
        stale_after_s = max(self.stale_after_s, 3 / rate_hz)
        return msgspec.structs.replace(self, rate_hz=rate_hz, command_rate_hz=0.0, stale_after_s=stale_after_s)

    def slower(self, share: float) -> ArmConfig:
        """The same arm with a share of its speed limits."""
        return msgspec.structs.replace(self, velocity_share=self.velocity_share * share)

    def to_yaml(self) -> str:
        """Text that reads back as this config."""
        return yaml.safe_dump(msgspec.to_builtins(self), sort_keys=False)

    def limits(self) -> Limits:
        """What the safety supervisor needs.

        Raises:
            ConfigError: If limits contradict each other.
        """
        return Limits(
            control=self.control,
            rate_hz=self.command_rate_hz or self.rate_hz,
            joints=self._joint_limits(),
            tool=self._tool_limits(),
            stale_after_s=self.stale_after_s,
            ramp_s=self.ramp_s,
            stop_after_bad=self.stop_after_bad * self.commands_per_step,
            kinematics=self._kinematics(),
            gripper=None
            if self.gripper is None
            else GripperLimits(low=self.gripper.width_m[0], high=self.gripper.width_m[1], speed=self.gripper.speed_m_s),
            overrun=self.overrun,
            policy_timeout_s=self.policy_timeout_s,
            operator_timeout_s=self.operator_timeout_s,
        )

    def _joint_limits(self) -> JointLimits:
        joints = self.joints
        jerks = [np.inf if j.jerk is None else j.jerk for j in joints]
        return JointLimits(
            names=tuple(j.name for j in joints),
            low=np.array([j.position[0] for j in joints]),
            high=np.array([j.position[1] for j in joints]),
            velocity=np.array([j.velocity for j in joints]),
            acceleration=np.array([j.acceleration for j in joints]),
            soft_margin=self.soft_margin_rad,
            velocity_share=self.velocity_share,
            jerk=np.array(jerks) if np.isfinite(jerks).all() else None,
        )

    def _tool_limits(self) -> ToolLimits | None:
        tool = self.tool
        if tool is None:
            return None
        return ToolLimits(
            workspace_low=np.array(tool.workspace_low_m),
            workspace_high=np.array(tool.workspace_high_m),
            speed=tool.speed_m_s,
            turn_rate=tool.turn_rate_rad_s,
            metres_per_unit=tool.metres_per_unit,
            radians_per_unit=tool.radians_per_unit,
            soft_margin=tool.soft_margin_m,
        )

    def _kinematics(self) -> Kinematics | None:
        rows = tuple(j.dh for j in self.joints if j.dh is not None)
        if not rows:
            return None
        return Kinematics(dh=rows, tool=(0.0, 0.0, 0.0) if self.tool is None else self.tool.offset_m)
