"""Columns on one clock as episodes of steps at one rate."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from robot_rl.data.bags.columns import Column, Columns
from robot_rl.data.bags.cut import Span
from robot_rl.data.bags.mapping import TopicMap
from robot_rl.data.bags.resample import resample
from robot_rl.data.episode import Episode
from robot_rl.data.lag import Lag, LagMeter
from robot_rl.errors import DataError

Floats = NDArray[np.float64]

FINE = 4  # lag is measured on a grid so many times as fine as the steps
MOST_STEPS = 20_000_000  # of a piece: more than four days at 50 Hz, and arrays of 160 MB
_ROUNDING = 1e-6  # s


def episodes_of(
    columns: Columns, cuts: Iterable[Span], mapping: TopicMap, where: str, notes: list[str]
) -> Iterator[Episode]:
    """Episodes of a recording.

    Args:
        columns: What was read; the action's stamps are moved by `lag_s` already.
        cuts: Stretches that may become episodes.
        mapping: Rules.
        where: Names the recording.
        notes: Gets what a user should know.

    Raises:
        DataError: If a value is too old for a step and the mapping says to refuse that.
    """
    short = holes = unsure = 0
    for span in cuts:
        grid, good, values = _grid(columns, span, mapping, where, notes)
        runs = _runs(good)
        holes += max(0, len(runs) - 1)
        for start, stop in runs:
            steps = stop - start - 1
            if steps < max(1, mapping.episodes.min_steps):
                short += 1
                continue
            part = slice(start, stop)
            last = stop == runs[-1][1]  # only a span's last piece shows how it ended
            unsure += span.success is not None and not last
            success = span.success if last else None
            yield _episode(grid[part], {k: v[part] for k, v in values.items()}, mapping, success, where)
    if holes:
        notes.append(f"{where}: values too old for a step cut {holes} times into an episode")
    if unsure:
        notes.append(
            f"{where}: {unsure} pieces ahead of such a cut are not labelled: the last one shows success or failure"
        )
    if short:
        notes.append(f"{where}: {short} pieces shorter than {max(1, mapping.episodes.min_steps)} steps left out")


def _grid(
    columns: Columns, span: Span, mapping: TopicMap, where: str, notes: list[str]
) -> tuple[Floats, NDArray[np.bool_], dict[str, Floats]]:
    """Times of the steps, which have every value, and the values by entry."""
    entries = columns.entries.values()
    start = max(span.start, *(float(c.times[0]) for c in entries))
    stop = min(span.stop, max(float(c.times[-1]) for c in entries))
    count = max(0, math.floor((stop - start) * mapping.rate_hz + _ROUNDING) + 1) if stop >= start else 0
    if count > MOST_STEPS:
        raise DataError(
            f"{where}: stamps reach from {start:.0f} to {stop:.0f} s, {count:,} steps at {mapping.rate_hz:g} Hz; at "
            f"most {MOST_STEPS:,} are made of one piece. Is a stamp 0? Take the recorder's times (clock: log), or "
            f"correct it."
        )
    grid = start + np.arange(count) / mapping.rate_hz
    good = np.ones(count, bool)
    values: dict[str, Floats] = {}
    for name, source in mapping.sources.items():
        column = columns.entries[name]
        limit = source.max_age_s or mapping.max_age_s
        values[name], fresh, age = resample(source.resample, column.times, column.rows, grid, limit)
        inside = grid <= column.times[-1] + _ROUNDING
        late = np.flatnonzero(~fresh & inside)
        if len(late):
            oldest = float(age[late].max())
            what = (
                f"{where}: {name} ({source.topic}) has no value within {limit:g} s at {len(late)} of {count} steps, "
                f"first at {grid[late[0]]:.2f} s, at most {oldest:.2f} s old"
            )
            if mapping.on_stale == "error":
                raise DataError(f"{what}. Raise its max_age_s, or set on_stale: cut to leave these steps out.")
            notes.append(f"{what}; no step is made there")
        good &= fresh
    return grid, good, values


def _runs(good: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First and last (exclusive) of every run of true values."""
    edges = np.diff(np.concatenate([[0], good.astype(np.int8), [0]]))
    return list(zip(np.flatnonzero(edges == 1).tolist(), np.flatnonzero(edges == -1).tolist(), strict=True))


def _episode(times: Floats, values: dict[str, Floats], mapping: TopicMap, success: bool | None, where: str) -> Episode:
    actions = np.hstack([values[f"action.{k}"] for k in mapping.action])[:-1]
    rewards = np.zeros(len(actions)) if mapping.reward is None else values["reward"][1:, 0]
    return Episode(
        observations=np.hstack([values[f"observation.{k}"] for k in mapping.observation]).astype(np.float32),
        actions=actions.astype(np.float32),
        rewards=rewards.astype(np.float32),
        success=success,
        timestamps=times,
        source=f"{where}:{times[0]:.2f} to {times[-1]:.2f} s",
    )


def measure_lag(columns: Iterable[tuple[Columns, list[Span]]], mapping: TopicMap) -> Lag | None:
    """Time from an action to the observation that shows it, in steps of 1 / (FINE * rate_hz)."""
    most = max(2, round(mapping.lag_window_s * mapping.rate_hz * FINE))
    meter = LagMeter(most)
    for read, cuts in columns:
        for span in cuts:
            piece = _fine(read, span, mapping)
            if piece is not None:
                meter.add(*piece)
    return meter.result()


def _fine(columns: Columns, span: Span, mapping: TopicMap) -> tuple[Floats, Floats] | None:
    actions = [columns.entries[f"action.{k}"] for k in mapping.action]
    observed = [columns.entries[f"observation.{k}"] for k in mapping.observation]
    everything = actions + observed
    start = max(span.start, *(float(c.times[0]) for c in everything))
    stop = min(span.stop, *(float(c.times[-1]) for c in everything))
    rate = FINE * mapping.rate_hz
    if (stop - start) * rate < 2:
        return None
    at = start + np.arange(math.floor((stop - start) * rate)) / rate
    periods = [float(np.median(np.diff(c.times))) for c in everything if len(c.times) > 1]
    width = max(1, round(max(periods) * rate))  # held commands step, joints glide: both are made equally smooth
    held = np.hstack([_smooth(resample("hold", c.times, c.rows, at, math.inf)[0], width) for c in actions])
    shown = np.hstack([_smooth(_linear(c, at), width) for c in observed])
    return held, shown


def _linear(column: Column, at: Floats) -> Floats:
    return resample("linear", column.times, column.rows, at, math.inf)[0]


def _smooth(rows: Floats, width: int) -> Floats:
    """Mean over `width` rows, (N, D); the same for actions and observations, so no lag comes from it."""
    if width < 2 or len(rows) <= width:
        return rows
    sums = np.cumsum(np.vstack([np.zeros(rows.shape[1]), rows]), axis=0)
    return (sums[width:] - sums[:-width]) / width
