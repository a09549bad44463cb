"""Names, units and bounds of a robosuite task's observation and action."""

from __future__ import annotations

from typing import Any

import numpy as np

from robot_rl.spec import Entry, Spec
from sim.robosuite_shared import object_entry

JOINTS = tuple(f"joint{i}" for i in range(1, 8))
FINGERS = ("left", "right")

# robomimic's low-dimensional entries behind `object`, in its order: name, labels, unit, frame
ROBOT_ENTRIES = (
    ("robot0_eef_pos", ("x", "y", "z"), "m", "world"),
    ("robot0_eef_quat", ("x", "y", "z", "w"), "1", "world"),
    ("robot0_gripper_qpos", FINGERS, "m", ""),
    ("robot0_gripper_qvel", FINGERS, "m/s", ""),
    ("robot0_joint_pos", JOINTS, "rad", ""),
    ("robot0_joint_vel", JOINTS, "rad/s", ""),
)

# A delta of the grip point's pose in the base frame: 1 is 0.05 m or 0.5 rad. The gripper closes above 0.
ACTIONS = ("dx", "dy", "dz", "droll", "dpitch", "dyaw", "gripper")


def build_spec(raw: Any, task: str, *, rate_hz: float, shared: bool = False) -> Spec:
    """Spec of a made robosuite environment `raw`.

    Args:
        raw: robosuite's environment; its `object` sensors differ by task.
        task: robosuite's name of it.
        rate_hz: Control rate, Hz.
        shared: With the `object` entry that all tasks share.

    Returns:
        Spec in robomimic's order. `object` mixes units; its labels are the sensors' names.
    """
    actions = tuple(Entry(name, (name,), "1", (-1.0,), (1.0,)) for name in ACTIONS)
    robot = tuple(_robot_entry(raw, *row) for row in ROBOT_ENTRIES)
    things, family = (object_entry(), "robosuite-shared") if shared else (_object_entry(raw), "robosuite")
    return Spec((things, *robot), actions, rate_hz, "osc_pose", f"{family}/{task}-v1")


def _robot_entry(raw: Any, name: str, labels: tuple[str, ...], unit: str, frame: str) -> Entry:
    if name != "robot0_joint_pos":
        return Entry(name, labels, unit, frame=frame)
    limits = raw.sim.model._model.jnt_range[raw.robots[0]._ref_joint_indexes]
    return Entry(name, labels, unit, tuple(limits[:, 0]), tuple(limits[:, 1]), frame)


def _object_entry(raw: Any) -> Entry:
    labels: list[str] = []
    units: list[str] = []
    for name, sensor in raw._observables.items():
        if sensor.modality != "object" or not (sensor.is_enabled() and sensor.is_active()):
            continue
        size = int(np.size(sensor.obs))
        axes = {1: ("",), 3: ("_x", "_y", "_z"), 4: ("_x", "_y", "_z", "_w")}[size]
        labels += [name + axis for axis in axes]
        units.append({1: "rad", 3: "m", 4: "1"}[size])
    unit = ", ".join(dict.fromkeys(units))
    return Entry("object", tuple(labels), unit, frame="world")
