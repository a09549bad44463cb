"""Figures over seeds and tasks: interquartile means with bootstrap intervals.

The intervals are the stratified bootstrap of Agarwal et al. 2021 (arXiv 2108.13264): seeds are drawn anew
within each task. rliable is not used because it asks for arch, seaborn and pandas. Its mean drops whole values
only, so of five seeds it averages three and of three all; ours weighs the cut ones by what is left of them (3/4, 1,
3/4 and 1/4, 1, 1/4). The two agree where the number of values is a multiple of four.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
DRAWS = 2000


class Interval(NamedTuple):
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float


def iqm(values: Floats) -> float:
    """Mean of the middle half of all `values`, whole ones and the cut ones in part."""
    ordered = np.sort(values, axis=None)
    count = len(ordered)
    cut = count / 4
    weights = np.clip(np.minimum(np.arange(1, count + 1) - cut, count - cut - np.arange(count)), 0.0, 1.0)
    return float((weights * ordered).sum() / weights.sum())


def iqm_interval(by_task: Sequence[Floats], *, seed: int = 0) -> Interval:
    """IQM over tasks and seeds, seeds drawn anew within each task.

    Args:
        by_task: One array of scores a task, (seeds,).
        seed: Of the draws.
    """
    rng = np.random.default_rng(seed)
    drawn = [iqm(np.concatenate([rng.choice(scores, len(scores)) for scores in by_task])) for _ in range(DRAWS)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Interval(iqm(np.concatenate(list(by_task))), float(low), float(high))
