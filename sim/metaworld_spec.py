"""Names and units of Meta-World's observation and action: the same for all of its tasks."""

from __future__ import annotations

from robot_rl.spec import Entry, Spec

XYZ = ("x", "y", "z")
# Meta-World hands on (w, x, y, z) in some tasks and (x, y, z, w) in others: the labels promise no order.
QUATERNION = ("q1", "q2", "q3", "q4")

# What is seen of one moment, 18 numbers: name, labels, unit, frame. Objects that a task lacks are zero.
FRAME = (
    ("hand_pos", XYZ, "m", "world"),
    ("gripper_opening", ("width",), "0.1 m", ""),  # clipped to [0, 1]
    ("object1_pos", XYZ, "m", "world"),
    ("object1_quat", QUATERNION, "1", "world"),
    ("object2_pos", XYZ, "m", "world"),
    ("object2_quat", QUATERNION, "1", "world"),
)
# Where objects and goal are from the hand. What moves the hand to an object of one task then moves it to another's.
FROM_HAND = ("object1", "object2", "goal")
METAWORLD_DIM = 39  # so many come from Meta-World itself
# The hand's shift in one simulator step: 1 is 0.01 m. The gripper's effort: it closes above 0.
ACTIONS = ("dx", "dy", "dz", "gripper")


def build_spec(*, env_id: str, rate_hz: float) -> Spec:
    """Spec of a task: the frame now, the frame one simulator step ago, the goal, and the way from the hand, 48 numbers.

    Args:
        env_id: Gymnasium id, the only thing in which the tasks' specs differ.
        rate_hz: Control rate, Hz.
    """
    now = tuple(Entry(name, labels, unit, frame=frame) for name, labels, unit, frame in FRAME)
    before = tuple(Entry(f"previous_{name}", labels, unit, frame=frame) for name, labels, unit, frame in FRAME)
    goal = Entry("goal_pos", XYZ, "m", frame="world")
    actions = tuple(Entry(name, (name,), "1", (-1.0,), (1.0,)) for name in ACTIONS)
    ways = tuple(Entry(f"{name}_from_hand", XYZ, "m", frame="world") for name in FROM_HAND)
    return Spec((*now, *before, goal, *ways), actions, rate_hz, "hand_delta", env_id)
