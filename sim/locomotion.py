"""HalfCheetah, Hopper and Walker2d with named observations that tell a fall; otherwise Gymnasium's own."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from robot_rl.spec import Array, Entry, Spec
from sim.rendering import headless


class NamedJoints(gym.Wrapper[Any, Any, Any, Any]):
    """Adds `robot_spec` and `task_ends` to a planar Gymnasium MuJoCo environment and changes nothing else.

    The observation holds joint positions without the first, the distance run, and all joint velocities.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        raw: Any = env.unwrapped
        model = raw.model
        joints = [model.joint(i) for i in range(model.njnt)]
        skipped = int(raw.observation_structure["skipped_qpos"])
        positions = [_entry("position", joint) for joint in joints[skipped:]]
        velocities = [_entry("velocity", joint) for joint in joints]
        actuators = [model.actuator(i) for i in range(model.nu)]
        action = Entry(
            "torque",
            tuple(a.name or model.joint(a.trnid[0]).name for a in actuators),
            "1",  # of the actuator's gear, N m
            tuple(a.ctrlrange[0] for a in actuators),
            tuple(a.ctrlrange[1] for a in actuators),
        )
        env_id = raw.spec.id if raw.spec else ""
        self.robot_spec = Spec((*positions, *velocities), (action,), 1.0 / raw.dt, "torque", env_id)

    def task_ends(self, observations: Array) -> NDArray[np.bool_]:
        """Whether the robot is not healthy any more, (..., S) -> (...); a cheetah always is.

        Hopper's bound of 100 on its state is left out: the observation clips velocities at 10.
        """
        raw: Any = self.unwrapped
        if not getattr(raw, "_terminate_when_unhealthy", False):
            return np.zeros(observations.shape[:-1], np.bool_)
        (low, high), (left, right) = raw._healthy_z_range, raw._healthy_angle_range
        height, angle = observations[..., 0], observations[..., 1]
        return ~((low < height) & (height < high) & (left < angle) & (angle < right))

    def render(self) -> Any:
        """Upstream's picture, drawn without a display where there is none."""
        with headless():
            return self.env.render()


def _entry(what: str, joint: Any) -> Entry:
    slides = int(joint.type[0]) == 2  # mjJNT_SLIDE
    unit = {"position": ("rad", "m"), "velocity": ("rad/s", "m/s")}[what][slides]
    return Entry(f"{joint.name}_{what}", (joint.name,), unit, frame="world" if slides else "")
