"""What physical arms share: their spec, and how old a measurement is."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from deploy.arms.drivers import DriverOptions
from deploy.arms.schema import ArmConfig
from robot_rl.errors import ArmError
from robot_rl.spec import Entry, Spec

AXES = ("x", "y", "z")
Triple = tuple[float, float, float]


class JointArmOptions(DriverOptions, frozen=True, kw_only=True):
    """What every physical arm may be told."""

    address: str  # host name or IP address of the controller
    frame: str = "base"  # what the policy calls the frame of the base
    goal_m: Triple | None = None  # adds an observation goal_pos: a target that no sensor gives


def joint_spec(config: ArmConfig, options: JointArmOptions, *, gripper: bool = False) -> Spec:
    """Spec of an arm that tells joints and tool and takes joint targets.

    The bounds of targets are the datasheet's position limits: those that a policy for this arm has.
    """
    names = tuple(j.name for j in config.joints)
    low, high = (tuple(j.position[side] for j in config.joints) for side in (0, 1))
    observation = [
        Entry("joint_pos", names, "rad"),
        Entry("joint_vel", names, "rad/s"),
        Entry("tool_pos", AXES, "m", frame=options.frame),
    ]
    action = [Entry("joint_pos_target", names, "rad", low, high)]
    if options.goal_m is not None:
        observation.append(Entry("goal_pos", AXES, "m", frame=options.frame))
    if gripper and config.gripper is not None:
        smallest, largest = config.gripper.width_m
        observation.append(Entry("gripper_width", ("width",), "m"))
        action.append(Entry("gripper_width_target", ("width",), "m", (smallest,), (largest,)))
    return Spec(tuple(observation), tuple(action), rate_hz=config.rate_hz, control=config.control)


class Freshness:
    """Tells when a measurement was new, from a clock of the arm that stands still when its network does."""

    def __init__(self) -> None:
        self._arm_time: Any = None
        self._stamp_s = 0.0

    def stamp(self, arm_time: Any) -> float:
        """When this value of the arm's clock was first seen, on `time.monotonic`'s clock, s."""
        if arm_time != self._arm_time:
            self._arm_time, self._stamp_s = arm_time, time.monotonic()
        return self._stamp_s


def require_joints(config: ArmConfig, count: int, driver: str) -> None:
    """Refuse a config with another number of joints than the arm has.

    Raises:
        ArmError: With both numbers.
    """
    if len(config.joints) != count:
        raise ArmError(f"{config.name} lists {len(config.joints)} joints; a '{driver}' arm has {count}.")


def missing_package(name: str, extra: str) -> ArmError:
    """The vendor's package is not there."""
    return ArmError(f"This arm needs {name}, which is not installed. Run `pip install -e '.[{extra}]'`.")


def observe(q: Any, dq: Any, tool: Any, options: JointArmOptions) -> Any:
    """The flat observation, (S,), float32, in the order of `joint_spec`, without the gripper."""
    parts = [q, dq, tool] if options.goal_m is None else [q, dq, tool, options.goal_m]
    return np.concatenate(parts, dtype=np.float32)
