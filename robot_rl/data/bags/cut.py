"""Where episodes begin and end in a recording: its whole, its gaps, or a marker topic's values."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from robot_rl.data.bags.columns import Columns
from robot_rl.data.bags.mapping import Cuts


@dataclass(frozen=True)
class Span:
    """A stretch of a recording, s, and whether the task was achieved in it (None where nobody says)."""

    start: float
    stop: float
    success: bool | None = None


def spans(columns: Columns, cuts: Cuts) -> list[Span]:
    """The stretches that are to become episodes, in order."""
    if cuts.split == "marker":
        return list(_by_marker(columns.marks, cuts))
    if cuts.split == "bag":
        return [Span(-math.inf, math.inf)]
    times = np.sort(np.concatenate([c.times for c in columns.entries.values()]))
    breaks = np.flatnonzero(np.diff(times) > cuts.gap_s)
    starts, stops = [0, *(breaks + 1)], [*breaks, len(times) - 1]
    return [Span(float(times[a]), float(times[b])) for a, b in zip(starts, stops, strict=True)]


def _by_marker(marks: Iterable[tuple[float, Any]], cuts: Cuts) -> Iterable[Span]:
    start: float | None = None
    for time, value in sorted(marks, key=lambda m: m[0]):
        success = True if value in cuts.success else False if value in cuts.failure else None
        ends = success is not None or value in cuts.end or value in cuts.begin
        if start is not None and ends:
            yield Span(start, time, success)
            start = None
        if value in cuts.begin and start is None:
            start = time
    if start is not None:
        yield Span(start, math.inf)
