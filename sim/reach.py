"""The reach task's rule, shared by the virtual arm and by physical arms that are given a goal. Needs numpy alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

REACHED = 0.03  # m


def reach_distance(tool: ArrayLike, goal: ArrayLike) -> float:
    """From tool to goal, (3,) each, m. The reward is its negative; below `REACHED` the goal is reached."""
    return float(np.linalg.norm(np.subtract(tool, goal)))
