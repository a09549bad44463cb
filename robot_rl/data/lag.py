"""How long an action takes to show in the observations, by cross-correlation.

Each action dimension is compared with each observation dimension in two ways: changes with changes (a position
target and a position), and values with changes (a velocity and a position). The clearest pair of each action
dimension votes; of peaks that are equally clear, as signals that swing have several, the nearest to 0 counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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


def estimate_lag(pieces: Iterable[tuple[Floats, Floats]], most: int) -> Lag | None:
    """Lag over pieces of (actions (T, A), observations (T or T+1, S)) with one row a step.

    Args:
        pieces: Uninterrupted stretches.
        most: Largest lag looked for, steps, to either side.

    Returns:
        None where no pair correlates clearly, or there is too little data.
    """
    sums: Floats | None = None
    power_x: list[Floats] = []
    power_y: Floats = np.zeros(0)
    steps = 0
    for actions, observations in pieces:
        changes = np.diff(np.asarray(observations, np.float64), axis=0)[: len(actions)]
        if len(changes) <= 2 * most:
            continue
        values = np.asarray(actions, np.float64)[: len(changes)]
        level = np.vstack([np.diff(values, axis=0), np.zeros((1, values.shape[1]))])
        rate = values - values.mean(0)
        found = np.stack([_correlate(x, changes, most) for x in (level, rate)])  # (2, A, S, 2*most+1)
        power = [np.square(x).sum(0) for x in (level, rate)]
        if sums is None:
            sums, power_x, power_y = found, power, np.square(changes).sum(0)
        else:
            sums += found
            power_x = [a + b for a, b in zip(power_x, power, strict=True)]
            power_y = power_y + np.square(changes).sum(0)
        steps += len(changes)
    if sums is None or steps < MIN_STEPS:
        return None
    scale = np.sqrt(np.stack(power_x)[:, :, None] * power_y[None, None, :])
    shares = np.abs(sums) / np.where(scale > 1e-12, scale, np.inf)[..., None]
    return _elect(shares, most)


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
