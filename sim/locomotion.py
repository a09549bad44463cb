"""HalfCheetah, Hopper and Walker2d with named observations; otherwise Gymnasium's own."""

from __future__ import annotations

from typing import Any

import gymnasium as gym

from robot_rl.spec import Entry, Spec
from sim.rendering import headless


class NamedJoints(gym.Wrapper[Any, Any, Any, Any]):
    """Adds `robot_spec` to a planar Gymnasium MuJoCo environment and changes nothing else.

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

    def render(self) -> Any:
        """Upstream's picture, drawn without a display where there is none."""
        with headless():
            return self.env.render()


def _entry(what: str, joint: Any) -> Entry:
    slides = int(joint.type[0]) == 2  # mjJNT_SLIDE
    unit = {"position": ("rad", "m"), "velocity": ("rad/s", "m/s")}[what][slides]
    return Entry(f"{joint.name}_{what}", (joint.name,), unit, frame="world" if slides else "")
