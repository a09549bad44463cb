"""Figures over seeds and tasks: interquartile means, their differences and who is ahead, with bootstrap intervals.

The intervals are the stratified bootstrap of Agarwal et al. 2021 (arXiv 2108.13264): seeds are drawn anew within each
task, as by rliable, with whose figures ours agree (a test holds it). rliable itself is not used: it asks for arch,
whose release (7.2.0) does not import beside pandas 3, which a fresh install takes. Its mean drops whole values only,
so of five seeds it averages three and of three all; ours weighs the cut ones by what is left of them (3/4, 1, 3/4 and
1/4, 1, 1/4). Where the number of values is a multiple of four they are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Draw = Callable[[np.random.Generator, Floats], Floats]  # of one task's scores
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
    return _interval(lambda draw: iqm(np.concatenate([draw(rng, scores) for scores in by_task])))


def difference_interval(ours: Sequence[Floats], theirs: Sequence[Floats], *, seed: int = 0) -> Interval:
    """IQM of one arm minus another's; seeds of each are drawn anew within each task.

    Args:
        ours: One array of scores a task, (seeds,).
        theirs: The other arm's, on the same tasks; it may have other seeds.
        seed: Of the draws.
    """
    rng = np.random.default_rng(seed)
    return _interval(
        lambda draw: (
            iqm(np.concatenate([draw(rng, scores) for scores in ours]))
            - iqm(np.concatenate([draw(rng, scores) for scores in theirs]))
        )
    )


def improvement_interval(ours: Sequence[Floats], theirs: Sequence[Floats], *, seed: int = 0) -> Interval:
    """Probability that a run of one arm scores above a run of another, mean over tasks; ties count half.

    That is rliable's probability of improvement.

    Args:
        ours: One array of scores a task, (seeds,).
        theirs: The other arm's, on the same tasks; it may have other seeds.
        seed: Of the draws.
    """
    rng = np.random.default_rng(seed)

    def ahead(draw: Draw) -> float:
        pairs = zip(ours, theirs, strict=True)
        signs = (np.sign(draw(rng, one)[:, None] - draw(rng, other)) for one, other in pairs)
        return float(np.mean([(1 + sign).mean() / 2 for sign in signs]))

    return _interval(ahead)


def _interval(figure: Callable[[Draw], float]) -> Interval:
    """A figure of all seeds as they are, and its interval over seeds drawn anew."""
    drawn = [figure(_anew) for _ in range(DRAWS)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Interval(figure(_as_they_are), float(low), float(high))


def _anew(rng: np.random.Generator, scores: Floats) -> Floats:
    return rng.choice(scores, len(scores))


def _as_they_are(_rng: np.random.Generator, scores: Floats) -> Floats:
    return scores
