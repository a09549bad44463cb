"""What can only be judged over all episodes: one function a fault."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from robot_rl.data.doctor.facts import REPEATS, Facts, Gathered
from robot_rl.data.doctor.finding import Finding

SATURATED_SHARE = 0.2  # of a dimension's actions at a bound
OUTLIER_SCALES = 20.0  # spreads (interquartile range or standard deviation) from the median
SHORT_STEPS, SHORT_SHARE = 5, 0.2  # fewer steps than this, or than this share of the median
TELEPORT = 20.0  # usual largest steps in one
LATE_STEPS, EARLY_STEPS = 3.0, -0.75  # lags beyond these are odd


def check_together(seen: Gathered) -> Iterator[Finding]:
    """What is wrong with the episodes together."""
    for check in _CHECKS if seen.facts else ():
        yield from check(seen)


def _constant(seen: Gathered) -> Iterator[Finding]:
    bounds = (
        ("observation", [(f.low, f.high) for f in seen.facts], seen.spec.obs_names),
        ("action", [(f.action_low, f.action_high) for f in seen.facts], seen.spec.action_names),
    )
    for kind, pairs, names in bounds:
        low, high = np.min([p[0] for p in pairs], axis=0), np.max([p[1] for p in pairs], axis=0)
        flat = [names[i] for i in np.flatnonzero(high - low <= 1e-6 * np.maximum(1, np.abs(low)))]
        if flat:
            what = f"{len(flat)} of {len(names)} {kind} dimensions never change: {', '.join(flat[:6])}"
            remedy = "check the sensor or the mapping; constant dimensions are scaled by 1, they carry nothing"
            yield Finding(severity="warning", check="zero variance", what=what, remedy=remedy)


def _saturated(seen: Gathered) -> Iterator[Finding]:
    share = np.average([f.at_bound for f in seen.facts], axis=0, weights=[f.steps for f in seen.facts])
    names = seen.spec.action_names
    worst = [i for i in np.argsort(-share) if share[i] > SATURATED_SHARE and "gripper" not in names[i]]
    if worst:
        most = f"{len(worst)} action dimensions sit at a bound for more than {SATURATED_SHARE:.0%} of the steps"
        what = f"{most}: {', '.join(f'{names[i]} {share[i]:.0%}' for i in worst[:6])}"
        remedy = "the operator asked for more than the arm could do; check the scale of the actions"
        yield Finding(severity="warning", check="saturated actions", what=what, remedy=remedy)


def _twins(seen: Gathered) -> Iterator[Finding]:
    first: dict[str, int] = {}
    for facts in seen.facts:
        twin = first.setdefault(facts.digest, facts.index)
        if twin != facts.index:
            what = f"has the same observations and actions as episode {twin}"
            remedy = "leave duplicates out, or a held-out split leaks"
            yield Finding(severity="warning", check="duplicates", what=what, remedy=remedy, episode=facts.index)


def _short(seen: Gathered) -> Iterator[Finding]:
    median = float(np.median([f.steps for f in seen.facts]))
    for facts in seen.facts:
        if facts.steps < max(SHORT_STEPS, SHORT_SHARE * median):
            what = f"{facts.steps} steps; the median is {median:g}"
            remedy = "see whether the recording was cut; leave it out if so"
            yield Finding(severity="warning", check="short episodes", what=what, remedy=remedy, episode=facts.index)


def _labels(seen: Gathered) -> Iterator[Finding]:
    labels = [f.success for f in seen.facts]
    if all(s is None for s in labels):
        remedy = "label by replay (--success replay) where the environment can be reset to a log"
        yield Finding(severity="note", check="success", what="no episode has a success label", remedy=remedy)
    elif not any(labels):
        what = f"none of {len(labels)} episodes is labelled successful"
        yield Finding(severity="warning", check="success", what=what, remedy="check the labels, or record again")


def _outliers(seen: Gathered) -> Iterator[Finding]:
    rows = seen.sample
    quarter, middle, three = np.quantile(rows, [0.25, 0.5, 0.75], axis=0)
    scale = three - quarter
    # velocities have heavy tails without being wrong; the furthest values must not set their own scale
    distance = np.sort(np.abs(rows - middle), axis=0)[: -max(1, len(rows) // 1000)]
    scale = np.maximum(scale, np.sqrt(np.square(distance).mean(0)))
    low, high = np.min([f.low for f in seen.facts], axis=0), np.max([f.high for f in seen.facts], axis=0)
    far = np.maximum(high - middle, middle - low) / np.where(scale > 1e-9, scale, np.inf)
    names = seen.spec.obs_names
    worst = [f"{names[i]} ({far[i]:.0f} x)" for i in np.argsort(-far) if far[i] > OUTLIER_SCALES]
    if worst:
        what = f"values far from the rest, in units of their spread: {', '.join(worst[:6])}"
        remedy = "look at these signals; a glitch dominates the statistics"
        yield Finding(severity="warning", check="outliers", what=what, remedy=remedy)


def _jumps(seen: Gathered) -> Iterator[Finding]:
    """Single steps in which a dimension goes much further than it usually does in any episode."""
    usual = np.median([f.step_usual for f in seen.facts], axis=0)
    names = seen.spec.obs_names
    for facts in seen.facts:
        times = facts.step_most / np.where(usual > 0, np.maximum(usual, facts.step_usual), np.inf)
        far = np.flatnonzero(times > TELEPORT)
        if len(far):
            worst = int(far[np.argmax(times[far])])
            what = (
                f"{names[worst]} jumps by {facts.step_most[worst]:.3g} at row {facts.step_row[worst]}, "
                f"{times[worst]:.0f} times its usual largest step ({len(far)} dimensions jump)"
            )
            remedy = "look for lost samples or a glitch of the sensor; cut the episode there"
            yield Finding(severity="warning", check="jumps", what=what, remedy=remedy, episode=facts.index)


def _lag(seen: Gathered) -> Iterator[Finding]:
    lag = seen.lag
    if lag is None or lag.spread > 1.5 or EARLY_STEPS < lag.steps < LATE_STEPS:
        return
    rate = seen.spec.rate_hz
    seconds = f" ({lag.steps / rate:.3f} s)" if rate else ""
    sure = f"correlation {lag.correlation:.2f}, {lag.votes} action dimensions"
    if lag.steps > 0:
        what = f"actions show in the observations only {lag.steps:.1f} steps{seconds} later ({sure})"
        remedy = (
            "the recording's delay: shift it (lag_s of a topic mapping); the robot's own: put past actions into obs"
        )
    else:
        what = f"actions come {-lag.steps:.1f} steps{seconds} after what they caused ({sure})"
        remedy = "the log pairs each observation with a former action, or its clocks disagree: shift the actions"
    yield Finding(severity="warning", check="lag", what=what, remedy=remedy)


def _repeated_actions(seen: Gathered) -> Iterator[Finding]:
    """Observations that hold the action itself: a cloned policy copies it and has learned nothing."""
    low, high = (np.array([getattr(f, k) for f in seen.facts]) for k in ("action_low", "action_high"))
    moves = high.max(0) > low.min(0)
    for later, pairs in zip(REPEATS, seen.repeats, strict=True):
        found = [(int(a), int(s)) for a, s in np.argwhere(pairs & moves[:, None])]
        if not found:
            continue
        names = ", ".join(f"{seen.spec.obs_names[s]} = {seen.spec.action_names[a]}" for a, s in found[:4])
        if later == 0:
            what = f"{len(found)} observation dimensions are the action of the same step: {names}"
            remedy = "leave them out (--obs-keys): a cloned policy copies them, and no robot knows its action before"
            yield Finding(severity="error", check="action in observation", what=what, remedy=remedy)
        else:
            what = f"{len(found)} observation dimensions are the action before: {names}"
            remedy = "a cloned policy may learn to repeat itself; leave them out (--obs-keys) if it does"
            yield Finding(severity="note", check="action in observation", what=what, remedy=remedy)


def _same_source(seen: Gathered) -> Iterator[Finding]:
    """Two different episodes under one name; equal ones are found as duplicates."""
    first: dict[str, Facts] = {}
    for facts in seen.facts:
        former = first.setdefault(facts.source, facts)
        if facts.source and former.digest != facts.digest:
            what = f"comes from '{facts.source}', as episode {former.index} does, but differs from it"
            yield Finding(
                severity="warning",
                check="same source",
                what=what,
                remedy="see whether a log was imported twice",
                episode=facts.index,
            )


_CHECKS: tuple[Callable[[Gathered], Iterator[Finding]], ...] = (
    _constant,
    _saturated,
    _twins,
    _short,
    _labels,
    _outliers,
    _jumps,
    _lag,
    _repeated_actions,
    _same_source,
)
