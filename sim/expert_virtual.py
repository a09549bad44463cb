"""Scripted expert of the virtual arm's reach task: inverse kinematics by damped least squares."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_rl.spec import Array, Spec
from sim.mj import mujoco
from sim.named import Named
from sim.virtual_arm import HOME, load_model

LEAD = 0.25  # rad the target may be ahead of the arm: about 1 rad/s with the arm's servos
DAMPING = 0.05  # m; keeps the step finite where the arm is stretched out


class ReachExpert:
    """Steers the tool to the goal, and what freedom is left towards the home pose.

    Near the goal the target is the Newton step itself, so it depends on the goal more than on where the
    arm is: that is what makes these demonstrations easy to imitate.

    Args:
        spec: Names of the observation it will be shown.
        noise: Standard deviation of Gaussian noise on the targets, as a share of the largest lead.
        pause: Chance, at each step, of standing still for the next 2 to 6 steps, in [0, 1].
    """

    def __init__(self, spec: Spec, *, noise: float = 0.1, pause: float = 0.0) -> None:
        self._spec, self._noise, self._pause = spec, noise, pause
        self._model = load_model()
        self._data: Any = mujoco.MjData(self._model)
        self._tool = int(self._model.site("tool").id)
        self._jacobian = np.zeros((3, int(self._model.nv)))
        self._rng = np.random.default_rng(0)
        self._idle = 0

    def reset(self, rng: np.random.Generator) -> None:
        """Start an episode; `rng` is the only source of chance."""
        self._rng, self._idle = rng, 0

    def act(self, obs: Array) -> Array:
        """Joint targets to execute and record, (7,), rad."""
        seen = Named(self._spec, obs)
        now = seen.entry("joint_pos")
        if self._idle == 0 and self._pause and self._rng.random() < self._pause:
            self._idle = int(self._rng.integers(2, 7))
        if self._idle:
            self._idle -= 1
            step = np.zeros_like(now)
        else:
            step = self._step(now, seen.entry("goal_pos") - seen.entry("tool_pos"))
        target = now + step + LEAD * self._noise * self._rng.standard_normal(now.shape)
        return np.clip(target, self._spec.action_low, self._spec.action_high).astype(np.float32)

    def _step(self, now: NDArray[np.float64], miss: NDArray[np.float64]) -> NDArray[np.float64]:
        """Joint step, (7,), rad, that takes the tool by `miss`, (3,), m, and relaxes towards home."""
        self._data.qpos[:] = now
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_comPos(self._model, self._data)
        mujoco.mj_jacSite(self._model, self._data, self._jacobian, None, self._tool)
        jacobian = self._jacobian
        gram = jacobian @ jacobian.T + DAMPING**2 * np.eye(3)
        relax = HOME - now
        step = relax + jacobian.T @ np.linalg.solve(gram, miss - jacobian @ relax)
        return step * min(1.0, LEAD / max(float(np.abs(step).max()), 1e-9))
