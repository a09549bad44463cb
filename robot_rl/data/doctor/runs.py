"""Runs of true values."""

from __future__ import annotations

from typing import Any

import numpy as np


def longest_run(flags: Any) -> tuple[int, int]:
    """Length and end (exclusive) of the longest run of true values; (0, 0) where there is none."""
    found = runs(flags)
    if not found:
        return 0, 0
    start, stop = max(found, key=lambda r: r[1] - r[0])
    return stop - start, stop


def runs(flags: Any) -> list[tuple[int, int]]:
    """Start and end (exclusive) of every run of true values, in order."""
    edges = np.diff(np.concatenate([[0], np.asarray(flags, np.int8), [0]]))
    return list(zip(np.flatnonzero(edges == 1).tolist(), np.flatnonzero(edges == -1).tolist(), strict=True))
