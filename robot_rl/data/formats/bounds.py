"""Action bounds for logs that state none.

Learners squash actions into the spec's bounds, so open bounds would be taken for [-1, 1] whatever the unit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Bounds = tuple[tuple[float, ...], tuple[float, ...]]


class LoggedRange:
    """Smallest and largest action seen, by dimension."""

    def __init__(self) -> None:
        self.low: NDArray[np.float32] | None = None
        self.high: NDArray[np.float32] | None = None

    def add(self, actions: NDArray[Any]) -> None:
        """Take in rows of actions, (N, A)."""
        if not len(actions):
            return
        low, high = actions.min(0).astype(np.float32), actions.max(0).astype(np.float32)
        self.low = low if self.low is None else np.minimum(self.low, low)
        self.high = high if self.high is None else np.maximum(self.high, high)

    def bounds(self) -> tuple[Bounds, str]:
        """Bounds and the note that explains them.

        [-1, 1] where all actions lie within it, as normalised actions do; else the logged range, widened by
        1 on either side where a dimension never changes.
        """
        if self.low is None or self.high is None:
            return ((), ()), "no actions"
        if (self.low >= -1).all() and (self.high <= 1).all():
            size = len(self.low)
            return (
                (-1.0,) * size,
                (1.0,) * size,
            ), "the log states no action bounds: all lie within [-1, 1], taken as such"
        still = self.high <= self.low
        low, high = self.low - still, self.high + still
        note = "the log states no action bounds: they are the smallest and largest action logged, by dimension"
        if still.any():
            note += f"; {int(still.sum())} never change and are given 1 on either side"
        return (tuple(map(float, low)), tuple(map(float, high))), note
