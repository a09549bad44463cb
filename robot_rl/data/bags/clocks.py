"""Stamps of several computers on the recorder's clock.

A sender's clock counts as the recorder's own while its messages arrive 0 to 0.5 s after their stamps. Otherwise it
is another clock: its stamps are moved by the shortest delay seen (which messages on their way can only lengthen),
with a straight line for drift. Where a clock jumps, it is aligned anew behind the jump: to no delay where it is
another clock there, and to the shortest of the recording where it is not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SAME_CLOCK_S = (-0.005, 0.5)  # delays that the network and the driver explain
JUMP_S = 0.1  # a lasting change of the delay by more than this
WINDOW = 20  # messages before and behind, for what lasts
DRIFT_S = 0.005  # a drift below this over the recording is left alone


@dataclass(frozen=True)
class Aligned:
    """Stamps on the recorder's clock, (N,), s, in order, with the messages they belong to and what was found."""

    times: Floats
    order: NDArray[np.intp]
    notes: tuple[str, ...]


def align(log: Floats, stamp: Floats | None, offset_s: float | None, what: str) -> Aligned:
    """Put the messages of one topic on the recorder's clock.

    Args:
        log: Times of arrival, (N,), s.
        stamp: The sender's stamps, (N,), s; None to go by arrival.
        offset_s: Known offset to add to the stamps, s; None to find it.
        what: Names the topic, for notes.
    """
    notes: list[str] = []
    times = np.array(log if stamp is None else stamp)
    back = np.flatnonzero(np.diff(times) < 0)
    if stamp is not None:
        times = np.concatenate(list(_pieces(log, stamp, offset_s, what, notes)))
    elif offset_s is not None:
        times += offset_s
    if len(back):
        notes.append(f"{what}: stamps run back {len(back)} times, first at message {back[0] + 1}; sorted")
    order = np.argsort(times, kind="stable")
    times = times[order]
    last = np.append(np.diff(times) > 0, True)  # of several with the same stamp, the last
    if not last.all():
        notes.append(f"{what}: {int((~last).sum())} of {len(last)} messages repeat a stamp; the last of each is taken")
    return Aligned(times[last], order[last], tuple(notes))


def _pieces(log: Floats, stamp: Floats, offset_s: float | None, what: str, notes: list[str]) -> Iterator[Floats]:
    """The stamps between jumps, each moved to the recorder's clock."""
    delay = log - stamp
    jumps = _jumps(delay)
    for row in jumps:
        notes.append(
            f"{what}: the stamps jump by {delay[row - 1] - delay[row]:+.3f} s against the recorder's clock at message "
            f"{row}; aligned anew behind it"
        )
    parts = [slice(start, stop) for start, stop in zip([0, *jumps], [*jumps, len(log)], strict=True)]
    usual = min((low for p in parts if (low := float(delay[p].min())) >= SAME_CLOCK_S[0]), default=0.0)
    for part in parts:
        if offset_s is not None:
            yield stamp[part] + offset_s
            continue
        shortest = float(delay[part].min())
        if SAME_CLOCK_S[0] <= shortest <= SAME_CLOCK_S[1]:
            moved = shortest - usual if shortest - usual > JUMP_S else 0.0  # no journey takes that much longer for good
            yield stamp[part] + moved
            continue
        shift, drift = _envelope(log[part], delay[part])
        word = f", drifting by {1e6 * drift:+.0f} ppm" if drift else ""
        side = "behind" if shortest > 0 else "ahead of"
        notes.append(
            f"{what}: its stamps are {abs(shortest):.4f} s {side} the recorder's clock{word}: another clock, "
            f"aligned by the shortest delay"
        )
        yield stamp[part] + shift


def _jumps(delay: Floats) -> list[int]:
    """Rows at which the delay changes for good."""
    found: list[int] = []
    for row in np.flatnonzero(np.abs(np.diff(delay)) > JUMP_S) + 1:
        before = delay[max(found[-1] if found else 0, row - WINDOW) : row]
        behind = delay[row : row + WINDOW]
        if abs(float(behind.min() - before.min())) > JUMP_S:
            found.append(int(row))
    return found


def _envelope(log: Floats, delay: Floats) -> tuple[Floats, float]:
    """Shortest delay over time as a straight line, (N,), s, and its slope, s/s."""
    parts = np.array_split(np.arange(len(log)), min(20, max(1, len(log) // 10)))
    lowest = np.array([p[delay[p].argmin()] for p in parts])
    x, y = log[lowest], delay[lowest]
    slopes = [(y[j] - y[i]) / (x[j] - x[i]) for i in range(len(x)) for j in range(i + 1, len(x)) if x[j] > x[i]]
    drift = float(np.median(slopes)) if slopes else 0.0
    if abs(drift) * (log[-1] - log[0]) < DRIFT_S:
        drift = 0.0
    line = drift * (log - log[0])
    return line + float((delay - line).min()), drift
