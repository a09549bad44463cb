"""Planar bodies of the DeepMind Control Suite: their tasks, and where each keeps its joints in the shared layout.

Known without dm_control, which need not be installed.
"""

from __future__ import annotations

from robot_rl.spec import Entry, Spec

RATE_HZ = 20  # the suite's bodies have control steps of 10, 20 and 25 ms; 50 ms are whole simulator steps of each
# task: episode length, control steps. The suite's 1,000 steps of each body take 10, 20 and 25 s.
TASKS = {
    "cheetah-run": 200,
    "hopper-hop": 400,
    "hopper-stand": 400,
    "walker-run": 500,
    "walker-stand": 500,
    "walker-walk": 500,
}
# What the suite's score counts to, over an episode
BEST = 1000.0

JOINTS = ("waist", "hip1", "knee1", "ankle1", "hip2", "knee2", "ankle2")
# body: the suite's name of each of JOINTS, empty where the body lacks it
BODIES = {
    "cheetah": ("", "bthigh", "bshin", "bfoot", "fthigh", "fshin", "ffoot"),
    "hopper": ("waist", "hip", "knee", "ankle", "", "", ""),
    "walker": ("", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle"),
}


def env_id_of(task: str) -> str:
    """Gymnasium id of a task: "dmc/walker-walk-v1"."""
    return f"dmc/{task}-v1"


def build_spec(*, env_id: str) -> Spec:
    """Spec of a task, 20 numbers and 7 actions.

    Args:
        env_id: Gymnasium id, the only thing in which the tasks' specs differ.
    """
    observation = (
        Entry("torso_height", ("z",), "m", frame="world"),
        Entry("torso_pitch", ("cos", "sin"), "1", frame="world"),
        Entry("torso_velocity", ("x", "z"), "m/s", frame="world"),
        Entry("torso_pitch_velocity", ("pitch",), "rad/s", frame="world"),
        Entry("joint_pos", JOINTS, "rad"),
        Entry("joint_vel", JOINTS, "rad/s"),
    )
    low, high = (-1.0,) * len(JOINTS), (1.0,) * len(JOINTS)
    torque = Entry("torque", JOINTS, "1", low, high)  # of the actuator's gear, N m
    return Spec(observation, (torque,), RATE_HZ, "torque", env_id)
