"""Scripted Door: take the handle from the front, turn it down, pull the door open.

The hand points at the door with one finger above the lever and one below it, and rolls with the lever. All
the geometry comes from what is observed: the door's yaw from where the handle is relative to the door.
"""

from __future__ import annotations

from enum import Enum, auto

import numpy as np
from numpy.typing import NDArray

from sim.named import Named, axes, steer, turn_between

# The door's model, m: x along the panel from the latch to the hinge, y through it (front is negative).
LATCH_X = -0.175
HINGE_X = 0.255
HANDLE_Y = -0.10
LEVER = 0.125  # from the latch's axis to the handle's site
GRASP = 0.11  # from the latch's axis to where the fingers take the lever

APPROACH = 0.10  # m in front of the handle, where the hand waits to be aligned
TURNED = 1.25  # rad of the handle, from which the latch is free (it clears the frame at 1.16)
HELD = 0.05  # m between the fingers, below which they hold the lever (0.04 m high)
STILL = 0.01  # m/s, below which the fingers have closed as far as they can
OPEN, CLOSED = -1.0, 1.0
UP = np.array([0.0, 0.0, 1.0])


class Phase(Enum):
    """What the arm is doing."""

    ALIGN = auto()
    REACH = auto()
    CLOSE = auto()
    TURN = auto()
    PULL = auto()


class DoorPlan:
    """Turns the handle and pulls the door open."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget the episode before."""
        self._phase = Phase.ALIGN

    def action(self, seen: Named) -> NDArray[np.float64]:
        """Action in [-1, 1] for one observation, (7,)."""
        door = Door(seen)
        hand, frame = seen.entry("robot0_eef_pos"), axes(seen.entry("robot0_eef_quat"))
        self._advance(seen, door, hand, frame)
        handle, hinge, gripper = door.handle, 0.0, OPEN
        if self._phase is Phase.CLOSE:
            gripper = CLOSED
        elif self._phase is Phase.TURN:
            handle, gripper = min(door.handle + 0.4, 1.5), CLOSED
        elif self._phase is Phase.PULL:
            handle, hinge, gripper = min(door.handle + 0.1, 1.4), 0.15, CLOSED
        goal, wanted = door.grasp(handle, hinge)
        if self._phase is Phase.ALIGN:
            goal = goal + APPROACH * door.front
        return steer(seen, goal, turn_between(frame, wanted), gripper, gain=2.0)

    def _advance(self, seen: Named, door: Door, hand: NDArray[np.float64], frame: NDArray[np.float64]) -> None:
        goal, wanted = door.grasp(door.handle, 0.0)
        off = hand - goal
        depth = float(off @ door.front)
        aside = float(np.linalg.norm(off - depth * door.front))
        askew = float(np.linalg.norm(turn_between(frame, wanted)))
        fingers, speeds = seen.entry("robot0_gripper_qpos"), seen.entry("robot0_gripper_qvel")
        opening = float(fingers[0] - fingers[1])
        if self._phase is Phase.ALIGN and aside < 0.015 and askew < 0.15:
            self._phase = Phase.REACH
        elif self._phase is Phase.REACH and aside < 0.02 and depth < 0.012:
            self._phase = Phase.CLOSE
        elif self._phase is Phase.CLOSE and opening < HELD and float(np.abs(speeds).max()) < STILL:
            self._phase = Phase.TURN
        elif self._phase is Phase.TURN and door.handle > TURNED:
            self._phase = Phase.PULL
        elif self._phase not in (Phase.ALIGN, Phase.REACH) and np.linalg.norm(off) > 0.05:
            self._phase = Phase.ALIGN


class Door:
    """Where the door's parts are, from one observation."""

    def __init__(self, seen: Named) -> None:
        self.handle = float(seen.sensor("handle_qpos")[0])
        site, middle = seen.sensor("handle_pos"), seen.sensor("door_pos")
        local = np.array([LATCH_X + LEVER * np.cos(self.handle), HANDLE_Y])
        seen_at = site - middle
        yaw = np.arctan2(seen_at[1], seen_at[0]) - np.arctan2(local[1], local[0])
        self._along = np.array([np.cos(yaw), np.sin(yaw), 0.0])  # from the latch towards the hinge
        self.front = np.array([np.sin(yaw), -np.cos(yaw), 0.0])
        self._latch = site - LEVER * self._lever(self.handle)
        self._hinge = middle + HINGE_X * self._along

    def _lever(self, handle: float) -> NDArray[np.float64]:
        return np.cos(handle) * self._along - np.sin(handle) * UP

    def grasp(self, handle: float, opened: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Pose of the grip point with the handle at `handle` and the door `opened` further, both rad.

        Returns:
            Position in the world, (3,), m, and the hand's frame, (3, 3).
        """
        lever = self._lever(handle)
        finger_axis = np.sin(handle) * self._along + np.cos(handle) * UP
        frame = np.column_stack([-lever, finger_axis, -self.front])
        position = self._latch + GRASP * lever
        swing = np.array(
            [
                [np.cos(opened), -np.sin(opened), 0.0],
                [np.sin(opened), np.cos(opened), 0.0],
                [0.0, 0.0, 1.0],
            ]
        )
        return self._hinge + swing @ (position - self._hinge), swing @ frame
