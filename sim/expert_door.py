"""Scripted Door."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sim.named import Named


class DoorPlan:
    """Turns the handle and pulls the door open."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget the episode before."""

    def action(self, seen: Named) -> NDArray[np.float64]:
        """Action in [-1, 1] for one observation, (7,)."""
        return np.zeros(7)
