"""Scripted Lift: above the cube, down, close, up; a lost cube is grasped again.

Every change of phase shows in the observation, so a policy without memory can learn it.
"""

from __future__ import annotations

from enum import Enum, auto

import numpy as np
from numpy.typing import NDArray

from sim.named import Named, axes, distance, nearest_angle, pointing_down, steer, turn_between, yaw_of

HOVER = 0.08  # m above the cube, before the fingers go down
CARRY = 0.20  # m above the grasp
HELD = 0.055  # m between the fingers, below which they touch the cube (about 0.042 m wide)
MISSED = 0.03  # m between the fingers, below which there is nothing between them
STILL = 0.01  # m/s, below which the fingers have closed as far as they can
OPEN, CLOSED = -1.0, 1.0
UP = np.array([0.0, 0.0, 1.0])


class Phase(Enum):
    """What the arm is doing."""

    ABOVE = auto()
    DOWN = auto()
    CLOSE = auto()
    UP = auto()


class LiftPlan:
    """Grasps the cube across two of its faces and lifts it."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget the episode before."""
        self._phase, self._goal = Phase.ABOVE, np.zeros(3)

    def action(self, seen: Named) -> NDArray[np.float64]:
        """Action in [-1, 1] for one observation, (7,)."""
        hand, cube = seen.entry("robot0_eef_pos"), seen.sensor("cube_pos")
        self._advance(seen, hand, cube)
        frame = axes(seen.entry("robot0_eef_quat"))
        now = yaw_of(frame)
        yaw = nearest_angle(yaw_of(axes(seen.sensor("cube_quat"))), now, np.pi / 2)
        turn = turn_between(frame, pointing_down(yaw))
        if self._phase is Phase.ABOVE:
            return steer(seen, cube + HOVER * UP, turn, OPEN, gain=2.0)
        if self._phase is Phase.DOWN:
            return steer(seen, cube, turn, OPEN, gain=2.0)
        if self._phase is Phase.CLOSE:
            return steer(seen, self._goal, np.zeros(3), CLOSED)
        return steer(seen, self._goal + CARRY * UP, np.zeros(3), CLOSED, gain=2.0)

    def _advance(self, seen: Named, hand: NDArray[np.float64], cube: NDArray[np.float64]) -> None:
        aside, above = distance(hand, cube, over=(0, 1)), hand[2] - cube[2]
        fingers, speeds = seen.entry("robot0_gripper_qpos"), seen.entry("robot0_gripper_qvel")
        opening = float(fingers[0] - fingers[1])
        if self._phase is Phase.ABOVE and aside < 0.015 and above < HOVER + 0.02:
            self._phase = Phase.DOWN
        elif self._phase is Phase.DOWN and aside > 0.04:
            self._phase = Phase.ABOVE
        elif self._phase is Phase.DOWN and abs(above) < 0.01 and aside < 0.015:
            self._phase, self._goal = Phase.CLOSE, hand.copy()
        elif self._phase in (Phase.CLOSE, Phase.UP) and (opening < MISSED or distance(hand, cube) > 0.04):
            self._phase = Phase.ABOVE
        elif self._phase is Phase.CLOSE and opening < HELD and float(np.abs(speeds).max()) < STILL:
            self._phase = Phase.UP
