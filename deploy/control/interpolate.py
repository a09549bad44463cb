"""From one policy action to the next, where commands are sent faster than the policy acts.

A segment runs from where the last one ended to the new action and takes one policy period, so the arm
follows by up to one period. Each is a polynomial in s, the share of the period that has passed:

    step      p1
    linear    p0 + s (p1 - p0)
    min_jerk  the quintic with the least jerk from (p0, v0, a0) to (p1, v1, 0); v1 = p1 - previous p1
    ruckig    none of these: a plan within the arm's limits, see `deploy.control.ruckig_path`

(Flash and Hogan 1985 for the quintic; velocities are per period.)
"""

from __future__ import annotations

from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from deploy.control.ruckig_path import RuckigPath
from deploy.safety.limits import Limits
from robot_rl.spec import Array

Vector = NDArray[np.float64]
Polynomial = Literal["step", "linear", "min_jerk"]
Mode = Literal[Polynomial, "ruckig"]


class Path(Protocol):
    """Commands that lead from one policy action to the next."""

    @property
    def due(self) -> bool:
        """Whether the next command needs a new action first."""
        ...

    def reset(self) -> None:
        """Forget the past: the next action is a segment's both ends."""
        ...

    def aim(self, action: Array) -> None:
        """Begin a segment towards `action`, (A,)."""
        ...

    def next(self) -> Vector:
        """The next command, (A,); the same buffer each time."""
        ...


def path_for(mode: Mode, commands: int, limits: Limits, size: int) -> Path | None:
    """The path of an arm; None where every command is an action of the policy.

    Args:
        mode: How commands lead from one action to the next.
        commands: Commands for each action.
        limits: The arm's.
        size: Length of an action, A.

    Raises:
        ConfigError: If `mode` needs a package that is not installed.
    """
    if commands == 1:
        return None
    return RuckigPath(commands, limits) if mode == "ruckig" else Interpolator(mode, commands, size)


class Interpolator:
    """Commands between policy actions.

    Args:
        mode: Shape of a segment.
        commands: Commands for each action, at least 1.
        size: Length of an action, A.
    """

    def __init__(self, mode: Polynomial, commands: int, size: int) -> None:
        self._mode, self._commands = mode, commands
        shares = np.arange(1, commands + 1)[:, None] / commands
        self._powers = shares ** np.arange(6)  # (commands, 6); the last row is s = 1
        self._poly = np.zeros((6, size))
        self._target = np.zeros(size)  # last finite action
        self._out = np.zeros(size)
        self._k = 0
        self._fresh = True

    def reset(self) -> None:
        """Forget the past: the next action is a segment's both ends."""
        self._fresh = True
        self._k = 0

    @property
    def due(self) -> bool:
        """Whether the next command needs a new action first."""
        return self._k == 0

    def aim(self, action: Array) -> None:
        """Begin a segment towards `action`, (A,). A NaN passes through for its period and leaves no trace."""
        goal = action.astype(np.float64)
        poly = self._poly
        start, speed, bend = self._end()
        poly[:] = 0.0
        if self._mode == "step" or self._commands == 1:
            poly[0] = goal
        elif self._mode == "linear":
            poly[0], poly[1] = start, goal - start
        else:
            arrive = np.zeros_like(goal) if self._fresh else goal - self._target
            way, faster = goal - start - speed - bend / 2, arrive - speed - bend
            poly[:] = (
                start,
                speed,
                bend / 2,
                10 * way - 4 * faster - bend / 2,
                -15 * way + 7 * faster + bend,
                6 * way - 3 * faster - bend / 2,
            )
        if self._fresh:
            poly[:] = 0.0
            poly[0] = goal
        if np.isfinite(goal).all():
            self._target[:] = goal
            self._fresh = False

    def next(self) -> Vector:
        """The next command, (A,); the same buffer each time."""
        np.dot(self._powers[self._k], self._poly, out=self._out)
        self._k = (self._k + 1) % self._commands
        return self._out

    def _end(self) -> tuple[Vector, Vector, Vector]:
        """Position, speed and acceleration at the end of the last segment; at rest after a NaN."""
        poly = self._poly
        if not np.isfinite(poly).all():
            still = np.zeros_like(self._target)
            return self._target.copy(), still, still
        powers = np.arange(6)
        speed, bend = powers @ poly, (powers * (powers - 1)) @ poly
        return poly.sum(axis=0), speed, bend
