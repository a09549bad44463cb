"""What can be wrong with one episode by itself: one function a fault."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from robot_rl.data.doctor.finding import Finding
from robot_rl.data.doctor.runs import longest_run
from robot_rl.data.episode import Episode
from robot_rl.spec import Spec

IDLE_S, IDLE_STEPS = 1.0, 20  # nothing moves for so long
GAP_PERIODS = 1.5  # a longer time between two observations is a gap


def check_episode(episode: Episode, spec: Spec, index: int) -> Iterator[Finding]:
    """What is wrong with one episode; further checks make sense only where all values are finite."""
    finite = list(_not_finite(episode, spec, index))
    yield from finite
    for check in () if finite else _CHECKS:
        yield from check(episode, spec, index)


def _not_finite(episode: Episode, spec: Spec, index: int) -> Iterator[Finding]:
    named = (("observations", spec.obs_names), ("actions", spec.action_names))
    for name, labels in named:
        bad = np.argwhere(~np.isfinite(getattr(episode, name)))
        if len(bad):
            row, column = bad[0]
            what = f"{name} hold {len(bad)} NaN or infinite values, first {labels[column]} in row {row}"
            yield Finding(
                severity="error", check="not finite", what=what, remedy="leave the episode out", episode=index
            )
    bad = np.flatnonzero(~np.isfinite(episode.rewards))
    if len(bad):
        what = f"rewards hold {len(bad)} NaN or infinite values, first in row {bad[0]}"
        yield Finding(severity="error", check="not finite", what=what, remedy="leave the episode out", episode=index)


def _out_of_bounds(episode: Episode, spec: Spec, index: int) -> Iterator[Finding]:
    low, high = spec.action_low, spec.action_high
    slack = 1e-3 * np.where(np.isfinite(high - low), high - low, 1.0)
    outside = (episode.actions < low - slack) | (episode.actions > high + slack)
    if outside.any():
        column = int(outside.sum(0).argmax())
        values = episode.actions[:, column]
        what = (
            f"{int(outside.sum())} actions out of bounds, most in {spec.action_names[column]}: {values.min():.3g} to "
            f"{values.max():.3g}, bounds {low[column]:.3g} to {high[column]:.3g}"
        )
        remedy = "import again with --actions clip, or name the environment that was recorded with --env"
        yield Finding(severity="error", check="actions out of bounds", what=what, remedy=remedy, episode=index)


def _times(episode: Episode, spec: Spec, index: int) -> Iterator[Finding]:
    if episode.timestamps is None:
        return
    steps = np.diff(episode.timestamps)
    remedy = "check the recorder's clock; split the episode at the fault or leave it out"
    if (steps <= 0).any():
        row = int(np.flatnonzero(steps <= 0)[0])
        what = (
            f"time stands still or runs back {int((steps <= 0).sum())} times, first by {steps[row]:.4f} s at row {row}"
        )
        yield Finding(severity="error", check="clock", what=what, remedy=remedy, episode=index)
        return
    if not spec.rate_hz:
        return
    period = 1 / spec.rate_hz
    gaps = np.flatnonzero(steps > GAP_PERIODS * period)
    if len(gaps):
        what = (
            f"{len(gaps)} time gaps, the first of {steps[gaps[0]]:.4f} s at row {gaps[0]}; the period is {period:.4f} s"
        )
        yield Finding(severity="error", check="time gaps", what=what, remedy=remedy, episode=index)
    elif abs(np.median(steps) / period - 1) > 0.05:
        what = f"rows come at {1 / np.median(steps):.2f} Hz, the spec says {spec.rate_hz:g} Hz"
        yield Finding(
            severity="warning",
            check="rate",
            what=what,
            remedy="import with the environment's rate",
            episode=index,
        )


def idle_rows(episode: Episode, spec: Spec) -> tuple[int, int]:
    """First row and steps of the longest stretch in which neither observations nor actions change; 0 steps for none."""
    still = (np.abs(np.diff(episode.observations, axis=0)) < 1e-6).all(1)
    still[:-1] &= (np.abs(np.diff(episode.actions, axis=0)) < 1e-6).all(1)
    if not episode.final_observed:
        still = still[:-1]
    longest, end = longest_run(still)
    return (end - longest, longest) if longest > max(IDLE_STEPS, int(IDLE_S * spec.rate_hz)) else (0, 0)


def _idle(episode: Episode, spec: Spec, index: int) -> Iterator[Finding]:
    row, steps = idle_rows(episode, spec)
    if steps:
        what = f"nothing moves for {steps} steps from row {row}"
        remedy = "cut idle stretches: a cloned policy learns to stand still"
        yield Finding(severity="warning", check="idle", what=what, remedy=remedy, episode=index)


def _frozen(episode: Episode, spec: Spec, index: int) -> Iterator[Finding]:
    """An entry that stands still to the last bit while the robot moves, though it moves elsewhere in the episode."""
    limit = max(IDLE_STEPS, int(IDLE_S * spec.rate_hz))
    changed = np.diff(episode.observations, axis=0) != 0
    if not episode.final_observed:
        changed = changed[:-1]
    moving = changed.any(1)
    start = 0
    for entry in spec.observation:
        mine = changed[:, start : start + entry.size].any(1)
        start += entry.size
        longest, end = longest_run(~mine)
        rest = len(mine) - longest
        # grippers and goals stand still by nature: only what else changes in nearly every step can freeze
        if longest > limit and rest > limit and mine.sum() > 0.9 * rest and moving[end - longest : end].mean() > 0.9:
            what = (
                f"{entry.name} stands still to the last bit for {longest} steps from row {end - longest}; others move"
            )
            remedy = "the sensor or its topic froze: leave the episode out, or cut it there"
            yield Finding(severity="warning", check="frozen sensor", what=what, remedy=remedy, episode=index)


def _unclear_end(episode: Episode, spec: Spec, index: int) -> Iterator[Finding]:
    if not (episode.terminated or episode.truncated):
        what = "is marked neither terminated nor truncated: whether its last value counts on is unknown"
        remedy = "import the logs again; ends of recordings are truncations"
        yield Finding(severity="error", check="ends", what=what, remedy=remedy, episode=index)


_CHECKS: tuple[Callable[[Episode, Spec, int], Iterator[Finding]], ...] = (
    _out_of_bounds,
    _times,
    _idle,
    _frozen,
    _unclear_end,
)
