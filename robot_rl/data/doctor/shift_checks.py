"""Episodes that were recorded otherwise than the rest: drifted, swapped, in other units, without a sensor."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from robot_rl.data.doctor.facts import Gathered
from robot_rl.data.doctor.finding import Finding

Floats = NDArray[np.float64]

SIDE = 3  # episodes on either side of a shift, at least
APART = 2.0  # a shift's gap, in ranges within the sides
TREND, TREND_EPISODES = 0.95, 10  # rank correlation with the episode's number
SCALES = {"degrees among radians": 57.2958, "millimetres among metres": 1000.0}
STRANGE = 6.0  # spreads of the others' means


def check_shifts(seen: Gathered) -> Iterator[Finding]:
    """What sets some episodes apart from the others."""
    if len(seen.facts) >= 2 * SIDE:
        for check in _CHECKS:
            yield from check(seen)


def _drift(seen: Gathered) -> Iterator[Finding]:
    """Values at the start of episodes that move for good at one episode, or steadily."""
    starts = np.array([f.start for f in seen.facts])
    names = seen.spec.obs_names
    remedy = "was the robot calibrated anew, or a camera or mount moved? learn from one side only, or correct the other"
    moved: dict[int, list[int]] = {}
    for column in range(starts.shape[1]):
        at = _shift(starts[:, column])
        if at:
            moved.setdefault(at, []).append(column)
        elif _steady(starts[:, column]):
            change = starts[-1, column] - starts[0, column]
            what = f"{names[column]} at the start of episodes drifts steadily, by {change:+.3g} over all of them"
            yield Finding(severity="warning", check="calibration drift", what=what, remedy=remedy)
    for at, columns in moved.items():
        shown = [f"{names[c]} {np.median(starts[at:, c]) - np.median(starts[:at, c]):+.3g}" for c in columns[:6]]
        first = seen.facts[at].index
        what = f"the start of episodes shifts at episode {first} and stays so: {', '.join(shown)}"
        yield Finding(severity="warning", check="calibration drift", what=what, remedy=remedy)


def _shift(values: Floats) -> int:
    """Number of values before a lasting shift; 0 where there is none."""
    for at in range(SIDE, len(values) - SIDE + 1):
        one, two = values[:at], values[at:]
        gap = max(two.min() - one.max(), one.min() - two.max())
        within = max(np.ptp(one), np.ptp(two), 1e-6 * (1 + abs(float(values.mean()))))
        if gap > APART * within:
            return at
    return 0


def _steady(values: Floats) -> bool:
    if len(values) < TREND_EPISODES or np.ptp(values) <= 1e-6 * (1 + abs(float(values.mean()))):
        return False
    ranks, order = np.argsort(np.argsort(values)), np.arange(len(values))
    return abs(float(np.corrcoef(ranks, order)[0, 1])) > TREND


def _swapped(seen: Gathered) -> Iterator[Finding]:
    """Two dimensions of an episode whose means fit each other's places and not their own."""
    means = np.array([f.mean for f in seen.facts])
    names = seen.spec.obs_names
    for row, facts in enumerate(seen.facts):
        others = np.delete(means, row, axis=0)
        middle = np.median(others, axis=0)
        spread = np.maximum(1.4826 * np.median(np.abs(others - middle), axis=0), 1e-6 * (1 + np.abs(middle)))
        distance = np.abs(means[row][:, None] - middle[None, :]) / spread[None, :]  # of value i in place j
        own = np.diag(distance)
        odd = np.flatnonzero(own > STRANGE)
        for i in odd:
            fits = [
                j for j in odd if j > i and max(distance[i, j], distance[j, i]) < min(STRANGE, own[i] / 3, own[j] / 3)
            ]
            for j in fits[:1]:
                what = f"{names[i]} and {names[j]} look swapped: each lies where the other does in the other episodes"
                remedy = "check the order of columns of this recording; leave it out or put them right"
                yield Finding(severity="error", check="swapped columns", what=what, remedy=remedy, episode=facts.index)


def _units(seen: Gathered) -> Iterator[Finding]:
    """Entries whose size in an episode differs from the others' by a factor between units."""
    sizes = np.array([np.maximum(np.abs(f.low), np.abs(f.high)) for f in seen.facts])
    for row, facts in enumerate(seen.facts):
        usual = np.median(np.delete(sizes, row, axis=0), axis=0)
        start = 0
        for entry in seen.spec.observation:
            part = slice(start, start + entry.size)
            start += entry.size
            if (usual[part] < 1e-6).any():
                continue
            ratio = float(np.median(sizes[row, part] / usual[part]))
            for what, factor in SCALES.items():
                if 0.6 < ratio / factor < 1.6 or 0.6 < ratio * factor < 1.6:
                    text = f"{entry.name} is {ratio:.3g} times as large as in the other episodes: {what}?"
                    remedy = "bring all recordings to the same unit before importing; leave this one out until then"
                    yield Finding(severity="error", check="units", what=text, remedy=remedy, episode=facts.index)


def _lost(seen: Gathered) -> Iterator[Finding]:
    """Entries that never change in one episode, though they do in nearly all others."""
    for entry_name, part in _parts(seen):
        still = np.array(
            [(f.high[part] - f.low[part] <= 1e-7 * np.maximum(1, np.abs(f.low[part]))).all() for f in seen.facts]
        )
        if still.mean() > 0.2:  # it stands still by nature, as goals do
            continue
        for facts, dead in zip(seen.facts, still, strict=True):
            if dead and facts.steps >= SIDE:
                what = f"{entry_name} never changes in this episode; in the others it does"
                remedy = "a sensor or topic was missing: leave the episode out"
                yield Finding(severity="warning", check="dead sensor", what=what, remedy=remedy, episode=facts.index)


def _parts(seen: Gathered) -> Iterator[tuple[str, slice]]:
    start = 0
    for entry in seen.spec.observation:
        yield entry.name, slice(start, start + entry.size)
        start += entry.size


_CHECKS: tuple[Callable[[Gathered], Iterator[Finding]], ...] = (_drift, _swapped, _units, _lost)
