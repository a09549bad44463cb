"""Commands between policy actions within speed, acceleration and jerk limits, planned by Ruckig.

Each action becomes the target of a time-optimal trajectory from where the last one has come (Berscheid and
Kroeger 2021, "Jerk-limited Real-time Trajectory Generation with Arbitrary Target States"). One that takes
longer than a policy period is simply aimed anew at the next action: an action out of reach costs time, where
a polynomial would ask for too much and the supervisor would cut it.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.safety.limits import Limits
from robot_rl.errors import ConfigError
from robot_rl.spec import Array

Vector = NDArray[np.float64]
HAND_S = 0.1  # until a gripper moves at its full speed: files name no acceleration of theirs
INSIDE = 0.99  # share of the limits that plans use: what is left is for rounding


class RuckigPath:
    """The same four calls as `deploy.control.interpolate.Interpolator`.

    Args:
        commands: Commands for each action, at least 1.
        limits: The arm's; joint targets, and a width where it has a gripper.

    Raises:
        ConfigError: If Ruckig is not installed.
    """

    def __init__(self, commands: int, limits: Limits) -> None:
        try:
            ruckig: Any = importlib.import_module("ruckig")
        except ImportError as error:
            raise ConfigError(
                "interpolation: ruckig needs the package ruckig. Run `pip install -e '.[ruckig]'`, or use linear or "
                "min_jerk."
            ) from error
        joints, gripper = limits.joints, limits.gripper
        hand = [] if gripper is None else [gripper.speed]
        unlimited = np.full(len(joints.names), np.inf)
        speed = np.append(joints.velocity * joints.velocity_share, hand)
        acceleration = np.append(joints.acceleration, np.array(hand) / HAND_S)
        jerk = np.append(unlimited if joints.jerk is None else joints.jerk, [np.inf] * len(hand))
        size = len(speed)
        self._commands, self._dt = commands, 1.0 / limits.rate_hz
        self._ruckig, self._input, self._plan = (
            ruckig.Ruckig(size),
            ruckig.InputParameter(size),
            ruckig.Trajectory(size),
        )
        self._error: type[Exception] = ruckig.RuckigError
        self._speed = INSIDE * speed
        self._input.max_velocity = self._speed.tolist()
        self._input.max_acceleration = (INSIDE * acceleration).tolist()
        self._input.max_jerk = (INSIDE * jerk).tolist()
        self._input.minimum_duration = self._commands * self._dt
        self._input.synchronization = ruckig.Synchronization.No
        self._still = [0.0] * size
        self._state: tuple[list[float], list[float], list[float]] = (self._still, self._still, self._still)
        self._goal, self._out = np.zeros(size), np.zeros(size)
        self._constant = True  # `_out` as it is, in place of a plan
        self._k = 0
        self._fresh = True

    def reset(self) -> None:
        """Forget the past: the next action is a segment's both ends."""
        self._fresh, self._k = True, 0

    @property
    def due(self) -> bool:
        """Whether the next command needs a new action first."""
        return self._k == 0

    def aim(self, action: Array) -> None:
        """Plan towards `action`, (A,). A NaN passes through for its period; the next plan begins at rest."""
        goal = action.astype(np.float64)
        if not np.isfinite(goal).all():
            self._rest_at(goal)
            return
        if self._fresh:
            self._out[:] = goal
            self._state = (goal.tolist(), self._still, self._still)
            self._constant, self._fresh = True, False
        else:
            self._plan_to(goal)
        self._goal = goal

    def next(self) -> Vector:
        """The next command, (A,); the same buffer each time."""
        self._k += 1
        if not self._constant:
            position, speed, acceleration = self._plan.at_time(self._k * self._dt)
            self._out[:] = position
            if self._k == self._commands:
                self._state = (position, speed, acceleration)
        self._k %= self._commands
        return self._out

    def _plan_to(self, goal: Vector) -> None:
        wish = self._input
        wish.current_position, wish.current_velocity, wish.current_acceleration = self._state
        wish.target_position = goal.tolist()
        passing = (goal - self._goal) / (self._commands * self._dt)  # actions are points on a way, not stops
        wish.target_velocity = np.clip(passing, -self._speed, self._speed).tolist()
        try:
            self._ruckig.calculate(wish, self._plan)
            self._constant = False
        except self._error:  # no plan: the supervisor holds for this period
            self._rest_at(np.nan)

    def _rest_at(self, command: Vector | float) -> None:
        """`command` for this period in place of a plan; the next plan begins at rest where the last one led."""
        self._out[:] = command
        self._constant = True
        self._state = (self._state[0], self._still, self._still)
