"""Values at given times from messages at their own: hold, linear, slerp, each with a maximum age."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robot_rl.data.bags.mapping import Resample

Floats = NDArray[np.float64]
_SLACK = 1e-9  # s, so that a value is found at its own stamp


def resample(
    rule: Resample, times: Floats, rows: Floats, at: Floats, max_age_s: float
) -> tuple[Floats, NDArray[np.bool_], Floats]:
    """Values at the times `at`.

    Args:
        rule: How.
        times: Stamps, (N,), s, increasing.
        rows: Values, (N, D).
        at: Wanted times, (G,), s, increasing.
        max_age_s: Oldest value that still counts; for interpolation, widest gap.

    Returns:
        Values, (G, D), arbitrary where none is good; which are good, (G,); how old the last message is, (G,), s
        (infinite before the first).
    """
    last = np.searchsorted(times, at + _SLACK, "right") - 1
    held = np.maximum(last, 0)
    age = np.where(last >= 0, np.maximum(at - times[held], 0.0), np.inf)
    if rule == "hold":
        return rows[held], age <= max_age_s, age
    following = np.minimum(held + 1, len(times) - 1)
    span = times[following] - times[held]
    share = np.where(span > 0, (at - times[held]) / np.where(span > 0, span, 1.0), 0.0)
    exact = age <= _SLACK * 2
    good = (last >= 0) & (exact | ((following > held) & (span <= max_age_s)))
    share = np.clip(share, 0.0, 1.0)[:, None]
    if rule == "linear":
        return (1 - share) * rows[held] + share * rows[following], good, age
    return _slerp(rows[held], rows[following], share), good, age


def _slerp(a: Floats, b: Floats, share: Floats) -> Floats:
    """Along the shorter arc between unit quaternions, (G, 4)."""
    a, b = (q / np.maximum(np.linalg.norm(q, axis=1, keepdims=True), 1e-12) for q in (a, b))
    dot = np.sum(a * b, axis=1, keepdims=True)
    b, dot = np.where(dot < 0, -b, b), np.minimum(np.abs(dot), 1.0)
    angle = np.arccos(dot)
    sine = np.where(angle > 1e-6, np.sin(angle), 1.0)
    near = angle <= 1e-6  # the arc is a straight line
    first = np.where(near, 1 - share, np.sin((1 - share) * angle) / sine)
    second = np.where(near, share, np.sin(share * angle) / sine)
    mixed = first * a + second * b
    return mixed / np.maximum(np.linalg.norm(mixed, axis=1, keepdims=True), 1e-12)
