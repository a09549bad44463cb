"""CartPole and Acrobot, which tell from an observation where their task ends; otherwise Gymnasium's own."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from robot_rl.spec import Array


class CartPole(gym.Wrapper[Any, Any, Any, Any]):
    """Adds `task_ends` and changes nothing else."""

    def task_ends(self, observations: Array) -> NDArray[np.bool_]:
        """Whether the cart is off the track or the pole has fallen, (..., 4) -> (...)."""
        raw: Any = self.unwrapped
        position, angle = np.abs(observations[..., 0]), np.abs(observations[..., 2])
        return (position > raw.x_threshold) | (angle > raw.theta_threshold_radians)


class Acrobot(gym.Wrapper[Any, Any, Any, Any]):
    """Adds `task_ends` and changes nothing else."""

    def task_ends(self, observations: Array) -> NDArray[np.bool_]:
        """Whether the tip is above the line, (..., 6) -> (...): cos and sin of both angles lead the observation."""
        cos_1, sin_1, cos_2, sin_2 = np.moveaxis(observations[..., :4], -1, 0)
        return -cos_1 - (cos_1 * cos_2 - sin_1 * sin_2) > 1.0
