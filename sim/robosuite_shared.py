"""One layout of the `object` entry for all robosuite tasks, so that logs of some can help another.

The tasks' own entries differ in width and order. Here each has its place, 18 numbers; what a task lacks is zero, as in
Meta-World. `robosuite-shared/TASK-v1` observes this way, with robosuite's shaped reward (without a demonstration of the
task the sparse one would be long in coming); `robosuite/TASK-v1` observes and rewards as robomimic does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_rl.errors import EnvError
from robot_rl.spec import Entry

XYZ = ("x", "y", "z")
# name, axes, unit; all in the world frame
LAYOUT: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("object_pos", XYZ, "m"),  # of what the hand has to take
    ("object_quat", (*XYZ, "w"), "1"),
    ("gripper_to_object", XYZ, "m"),
    ("object2_pos", XYZ, "m"),  # of what it belongs to
    ("handle_qpos", ("",), "rad"),
    ("hinge_qpos", ("",), "rad"),
    ("goal_pos", XYZ, "m"),  # where the object has to go
)
# task: place in the layout -> robosuite's sensor
SENSORS: dict[str, dict[str, str]] = {
    "Lift": {"object_pos": "cube_pos", "object_quat": "cube_quat"},
    "Door": {
        "object_pos": "handle_pos",
        "object2_pos": "door_pos",
        "handle_qpos": "handle_qpos",
        "hinge_qpos": "hinge_qpos",
    },
    "PickPlaceCan": {"object_pos": "Can_pos", "object_quat": "Can_quat"},
    "NutAssemblySquare": {"object_pos": "SquareNut_pos", "object_quat": "SquareNut_quat"},
}
LIFTED = 0.04  # m above the table, where robosuite takes the cube for lifted


def require_task(task: str) -> None:
    """Refuse a task that has no place in the layout.

    Raises:
        EnvError: Naming those that have.
    """
    if task not in SENSORS:
        raise EnvError(f"robosuite's task '{task}' has no shared layout; {', '.join(SENSORS)} have.")


def object_entry() -> Entry:
    """The `object` entry of every task."""
    labels = tuple(f"{name}_{axis}" if axis else name for name, axes, _ in LAYOUT for axis in axes)
    return Entry("object", labels, ", ".join(dict.fromkeys(unit for *_, unit in LAYOUT)), frame="world")


def object_values(task: str, raw: Any, values: Mapping[str, Any]) -> NDArray[np.float64]:
    """What `object_entry` names, (18,).

    Args:
        task: robosuite's name of the task.
        raw: robosuite's environment.
        values: Its observations.
    """
    sensors = SENSORS[task]
    parts = {place: np.atleast_1d(values[sensor]) for place, sensor in sensors.items()}
    parts["gripper_to_object"] = parts["object_pos"] - values["robot0_eef_pos"]
    parts["goal_pos"] = _goal(task, raw)
    return np.concatenate([parts.get(name, np.zeros(len(axes))) for name, axes, _ in LAYOUT])


def _goal(task: str, raw: Any) -> NDArray[np.float64]:
    if task == "Lift":  # anywhere at this height
        return np.add(raw.table_offset, [0.0, 0.0, LIFTED], dtype=np.float64)
    if task == "PickPlaceCan":
        return np.asarray(raw.target_bin_placements[raw.object_id])
    if task == "NutAssemblySquare":
        return np.asarray(raw.sim.data.body_xpos[raw.peg1_body_id])
    return np.zeros(3)  # the door is to be opened, wherever that leads its handle
