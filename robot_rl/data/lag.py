"""How long an action takes to show in the observations, by cross-correlation.

Each action dimension is compared with each observation dimension in two ways: changes with changes (a position
target and a position), and values with changes (a velocity and a position). The clearest pair of each action
dimension votes; of peaks that are equally clear, as signals that swing have several, the nearest to 0 counts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

CLEAR = 0.5  # correlation from which a pair votes
EQUAL = 0.05  # peaks within this of the highest are as good
MIN_STEPS = 100  # below, chance correlations are too high


@dataclass(frozen=True, kw_only=True)
class Lag:
    """An estimate.

    Args:
        steps: Steps from an action to the observation that shows it; 1 is what an ideal arm does in one step of a
            position controller. Negative where actions come after what they caused.
        correlation: Mean of the voting pairs, in [0, 1].
        votes: Action dimensions that voted.
        spread: Largest distance of a vote from the estimate, steps.
    """

    steps: float
    correlation: float
    votes: int
    spread: float


class LagMeter:
    """Lag over pieces given one by one.

    Args:
        most: Largest lag looked for, steps, to either side.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._steps = 0
        self._sums: Floats = np.zeros(0)
        self._power_x: Floats = np.zeros(0)
        self._power_y: Floats = np.zeros(0)

    def add(self, actions: ArrayLike, observations: ArrayLike) -> None:
        """Take in an uninterrupted stretch.

        Args:
            actions: (T, A), one row a step.
            observations: (T, S) or (T+1, S).
        """
        values = np.asarray(actions, np.float64)
        changes = np.diff(np.asarray(observations, np.float64), axis=0)[: len(values)]
        if len(changes) <= 2 * self.most:
            return
        values = values[: len(changes)]
        level = np.vstack([np.diff(values, axis=0), np.zeros((1, values.shape[1]))])
        both = (level, values - values.mean(0))
        sums = np.stack([_correlate(x, changes, self.most) for x in both])  # (2, A, S, 2 * most + 1)
        power_x = np.stack([np.square(x).sum(0) for x in both])
        first = self._steps == 0
        self._sums = sums if first else self._sums + sums
        self._power_x = power_x if first else self._power_x + power_x
        self._power_y = np.square(changes).sum(0) + (0 if first else self._power_y)
        self._steps += len(changes)

    def result(self) -> Lag | None:
        """The estimate; None where no pair correlates clearly, or there is too little data."""
        if self._steps < MIN_STEPS:
            return None
        scale = np.sqrt(self._power_x[:, :, None] * self._power_y[None, None, :])
        return _elect(np.abs(self._sums) / np.where(scale > 1e-12, scale, np.inf)[..., None], self.most)


def _correlate(x: Floats, y: Floats, most: int) -> Floats:
    """Sum over t of x[t] y[t + k], (A, S, 2 * most + 1), for k from -most to most."""
    size = len(x)
    parts = [x[max(0, -k) : size - max(0, k)].T @ y[max(0, k) : size + min(0, k)] for k in range(-most, most + 1)]
    return np.stack(parts, axis=-1)


def _elect(shares: Floats, most: int) -> Lag | None:
    votes: list[tuple[float, float]] = []
    for index in range(shares.shape[1]):
        mine = shares[:, index]  # (2, S, K)
        inner = mine[..., 1:-1]
        peaks = np.argwhere((inner >= mine[..., :-2]) & (inner >= mine[..., 2:]) & (inner >= CLEAR))
        if not len(peaks):
            continue
        found = [_refined(mine[kind, s], k + 1, most) for kind, s, k in peaks]
        delays = [delay + 0.5 * kind for (delay, _), (kind, _, _) in zip(found, peaks, strict=True)]
        heights = [height for _, height in found]
        best = max(heights)
        choice = min((abs(d), -h, d) for d, h in zip(delays, heights, strict=True) if h >= best - EQUAL)
        votes.append((choice[2], -choice[1]))
    if not votes:
        return None
    delays = np.array([d for d, _ in votes])
    middle = float(np.median(delays))
    return Lag(
        steps=middle,
        correlation=float(np.mean([h for _, h in votes])),
        votes=len(votes),
        spread=float(np.abs(delays - middle).max()),
    )


def _refined(curve: Floats, top: int, most: int) -> tuple[float, float]:
    """Delay and height of a peak, by the parabola through its three highest points."""
    left, middle, right = curve[top - 1 : top + 2]
    bend = left - 2 * middle + right
    shift = 0.5 * (left - right) / bend if bend < 0 else 0.0
    return float(top - most + shift), float(middle)
