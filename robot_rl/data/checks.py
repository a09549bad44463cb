"""The doctor's checks: what can be wrong with one episode, and with all of them together."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from robot_rl.data.episode import Episode
from robot_rl.spec import Array, Spec

Severity = Literal["error", "warning", "note"]

SATURATED_SHARE = 0.2  # of a dimension's actions at a bound
IDLE_S, IDLE_STEPS = 1.0, 20  # nothing moves for so long
OUTLIER_SCALES = 20.0  # spreads (interquartile range or standard deviation) from the median
SHORT_STEPS, SHORT_SHARE = 5, 0.2  # fewer steps than this, or than this share of the median
GAP_PERIODS = 1.5  # a longer time between two observations is a gap


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong or odd; `episode` is None where it concerns the whole dataset."""

    severity: Severity
    check: str
    what: str
    remedy: str
    episode: int | None = None


def check_episode(episode: Episode, spec: Spec, index: int) -> Iterator[Finding]:
    """What is wrong with one episode; further checks make sense only where all values are finite."""
    finite = list(_not_finite(episode, spec, index))
    yield from finite
    if not finite:
        yield from _out_of_bounds(episode, spec, index)
        yield from _times(episode, spec, index)
        yield from _idle(episode, spec, index)


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


def _idle(episode: Episode, spec: Spec, index: int) -> Iterator[Finding]:
    limit = max(IDLE_STEPS, int(IDLE_S * spec.rate_hz))
    still = (np.abs(np.diff(episode.observations, axis=0)) < 1e-6).all(1)
    still[:-1] &= (np.abs(np.diff(episode.actions, axis=0)) < 1e-6).all(1)
    if not episode.final_observed:
        still = still[:-1]
    longest, end = _longest_run(still)
    if longest > limit:
        what = f"nothing moves for {longest} steps from row {end - longest}"
        yield Finding(
            severity="warning",
            check="idle",
            what=what,
            remedy="cut idle stretches: a cloned policy learns to stand still",
            episode=index,
        )


def _longest_run(flags: Array | Any) -> tuple[int, int]:
    """Length and end of the longest run of true values."""
    edges = np.diff(np.concatenate([[0], np.asarray(flags, np.int8), [0]]))
    starts, stops = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    if not len(starts):
        return 0, 0
    best = int((stops - starts).argmax())
    return int(stops[best] - starts[best]), int(stops[best])


class Together:
    """What can only be judged over all episodes, collected one by one."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.lengths: dict[int, int] = {}
        self.success: list[bool | None] = []
        self.hashes: dict[str, int] = {}
        self.twins: list[tuple[int, int]] = []
        self.obs_low, self.obs_high = np.full(spec.obs_dim, np.inf), np.full(spec.obs_dim, -np.inf)
        self.low, self.high = np.full(spec.action_dim, np.inf), np.full(spec.action_dim, -np.inf)
        self.at_bound = np.zeros(spec.action_dim)
        self.sample: list[Array] = []

    @property
    def steps(self) -> int:
        """Steps of the episodes added."""
        return sum(self.lengths.values())

    def add(self, episode: Episode, index: int) -> None:
        """Take in one episode of finite values."""
        obs, actions = episode.observations, episode.actions
        self.lengths[index] = len(episode)
        self.success.append(episode.success)
        digest = hashlib.sha256(obs.tobytes() + actions.tobytes()).hexdigest()
        first = self.hashes.setdefault(digest, index)
        if first != index:
            self.twins.append((first, index))
        self.obs_low, self.obs_high = (
            np.minimum(self.obs_low, obs.min(0)),
            np.maximum(self.obs_high, obs.max(0)),
        )
        self.low, self.high = np.minimum(self.low, actions.min(0)), np.maximum(self.high, actions.max(0))
        span = self.spec.action_high - self.spec.action_low
        near = 1e-3 * np.where(np.isfinite(span), span, 0)
        self.at_bound += ((actions <= self.spec.action_low + near) | (actions >= self.spec.action_high - near)).sum(0)
        self.sample.append(obs[:: max(1, len(obs) // 200)])

    def findings(self) -> list[Finding]:
        """What is wrong with the episodes together."""
        if not self.lengths:
            return []
        return [
            *self._constant(),
            *self._saturated(),
            *self._twins(),
            *self._short(),
            *self._labels(),
            *self._outliers(),
        ]

    def _constant(self) -> Iterator[Finding]:
        for kind, low, high, names in (
            ("observation", self.obs_low, self.obs_high, self.spec.obs_names),
            ("action", self.low, self.high, self.spec.action_names),
        ):
            flat = [names[i] for i in np.flatnonzero(high - low <= 1e-6 * np.maximum(1, np.abs(low)))]
            if flat:
                what = f"{len(flat)} of {len(names)} {kind} dimensions never change: {', '.join(flat[:6])}"
                remedy = "check the sensor or the mapping; constant dimensions are scaled by 1, they carry nothing"
                yield Finding(severity="warning", check="zero variance", what=what, remedy=remedy)

    def _saturated(self) -> Iterator[Finding]:
        share = self.at_bound / self.steps
        names = self.spec.action_names
        worst = [f"{names[i]} {share[i]:.0%}" for i in np.argsort(-share) if share[i] > SATURATED_SHARE]
        gripper = [w for w in worst if "gripper" in w]
        moving = [w for w in worst if w not in gripper]
        if moving:
            most = f"{len(moving)} action dimensions sit at a bound for more than {SATURATED_SHARE:.0%} of the steps"
            what = f"{most}: {', '.join(moving[:6])}"
            remedy = "the operator asked for more than the arm could do; check the scale of the actions"
            yield Finding(severity="warning", check="saturated actions", what=what, remedy=remedy)

    def _twins(self) -> Iterator[Finding]:
        for first, second in self.twins:
            what = f"has the same observations and actions as episode {first}"
            remedy = "leave duplicates out, or a held-out split leaks"
            yield Finding(severity="warning", check="duplicates", what=what, remedy=remedy, episode=second)

    def _short(self) -> Iterator[Finding]:
        median = float(np.median(list(self.lengths.values())))
        for index, length in self.lengths.items():
            if length < max(SHORT_STEPS, SHORT_SHARE * median):
                what = f"{length} steps; the median is {median:g}"
                remedy = "see whether the recording was cut; leave it out if so"
                yield Finding(severity="warning", check="short episodes", what=what, remedy=remedy, episode=index)

    def _labels(self) -> Iterator[Finding]:
        if all(s is None for s in self.success):
            remedy = "label by replay (--success replay) where the environment can be reset to a log"
            yield Finding(severity="note", check="success", what="no episode has a success label", remedy=remedy)
        elif not any(self.success):
            what = f"none of {len(self.success)} episodes is labelled successful"
            yield Finding(severity="warning", check="success", what=what, remedy="check the labels, or record again")

    def _outliers(self) -> Iterator[Finding]:
        rows = np.concatenate(self.sample)
        quarter, middle, three = np.quantile(rows, [0.25, 0.5, 0.75], axis=0)
        scale = three - quarter
        # velocities have heavy tails without being wrong; the furthest values must not set their own scale
        distance = np.sort(np.abs(rows - middle), axis=0)[: -max(1, len(rows) // 1000)]
        scale = np.maximum(scale, np.sqrt(np.square(distance).mean(0)))
        far = np.maximum(self.obs_high - middle, middle - self.obs_low) / np.where(scale > 1e-9, scale, np.inf)
        names = self.spec.obs_names
        worst = [f"{names[i]} ({far[i]:.0f} x)" for i in np.argsort(-far) if far[i] > OUTLIER_SCALES]
        if worst:
            what = f"values far from the rest, in units of their spread: {', '.join(worst[:6])}"
            remedy = "look at these signals; a glitch dominates the statistics"
            yield Finding(severity="warning", check="outliers", what=what, remedy=remedy)
