"""What the doctor can mend, written as a new dataset: cut, clipped or left out, and each change said.

Lags, drift, labels and outliers are not touched: what is right there only a person knows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import pairwise

import numpy as np

from robot_rl.data.doctor.episode_checks import GAP_PERIODS, idle_rows
from robot_rl.data.doctor.finding import Finding
from robot_rl.data.doctor.report import Report
from robot_rl.data.doctor.runs import runs
from robot_rl.data.episode import Episode
from robot_rl.spec import Array, Spec

LEAVE_OUT = {
    "duplicates": "repeat another",
    "short episodes": "are much shorter than the rest",
    "swapped columns": "have swapped columns",
    "units": "are in other units",
    "dead sensor": "lack a sensor",
    "schema": "have other columns",
    "unreadable": "cannot be read",
    "ends": "have unclear ends",
}
MIN_STEPS = 5  # a piece shorter than this is not worth keeping


class Fixer:
    """Mends episodes one by one and counts what it did.

    Args:
        report: What the doctor found in them.
        spec: What their numbers mean.
    """

    def __init__(self, report: Report, spec: Spec) -> None:
        self._spec = spec
        self._wrong: dict[int, list[Finding]] = {}
        for finding in report.findings:
            if finding.episode is not None:
                self._wrong.setdefault(finding.episode, []).append(finding)
        self._left_out: dict[str, list[int]] = {}
        self._missing = set(range(report.episodes))
        self._done: Counter[str] = Counter()
        others = {f.check for f in report.findings if f.severity != "note"}
        self._untouched = sorted(others - _MENDED - LEAVE_OUT.keys())

    def mend(self, episodes: Iterable[tuple[int, Episode]]) -> Iterator[Episode]:
        """The episodes as they should be; consumed one by one."""
        for index, episode in episodes:
            self._missing.discard(index)
            reasons = [f.check for f in self._wrong.get(index, []) if f.check in LEAVE_OUT]
            if reasons:
                self._left_out.setdefault(reasons[0], []).append(index)
                continue
            yield from self._pieces(self._clipped(episode))

    @property
    def changes(self) -> list[str]:
        """What was done, a sentence each; complete once all episodes were mended."""
        broken = [i for i in sorted(self._missing) if any(f.check == "unreadable" for f in self._wrong.get(i, []))]
        left_out = self._left_out | ({"unreadable": broken} if broken else {})
        said = [
            f"left out {len(found)} episodes that {LEAVE_OUT[check]}: {_some(found)}"
            for check, found in left_out.items()
        ]
        if behind := sorted(self._missing - set(broken)):
            said.append(f"left out {len(behind)} episodes that stand behind one that cannot be read: {_some(behind)}")
        said += [f"{what} {count:,}" for what, count in self._done.items()]
        if self._untouched:
            said.append(f"left as found, for a person to judge: {', '.join(self._untouched)}")
        return said or ["nothing needed mending"]

    def _clipped(self, episode: Episode) -> Episode:
        actions = np.clip(episode.actions, self._spec.action_low, self._spec.action_high)
        beyond = np.abs(actions - episode.actions) > 0  # false for NaN, which is cut out later
        if not beyond.any():
            return episode
        self._done["action entries clipped to their bounds:"] += int(beyond.sum())
        return _with(episode, slice(0, len(episode)), actions)

    def _pieces(self, episode: Episode) -> Iterator[Episode]:
        """Stretches without NaN, clock faults and long standstill."""
        good = np.isfinite(episode.observations).all(1)
        good[:-1] &= np.isfinite(episode.actions).all(1) & np.isfinite(episode.rewards)
        self._note("rows with NaN or infinity cut out:", int((~good).sum()))
        row, steps = idle_rows(episode, self._spec)
        if steps:
            good[row + 1 : row + steps] = False
            self._note("rows of standstill cut out:", steps - 1)
        parts = [(a, b) for start, stop in runs(good) for a, b in self._at_breaks(episode, start, stop)]
        if parts == [(0, len(episode) + 1)]:
            yield episode
            return
        for start, stop in parts:
            if stop - start - 1 >= MIN_STEPS:
                yield _with(episode, slice(start, stop - 1), episode.actions)
            else:
                self._note("pieces too short to keep:", 1)

    def _at_breaks(self, episode: Episode, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """A stretch in the pieces between faults of its clock."""
        if episode.timestamps is None:
            yield start, stop
            return
        times = np.diff(episode.timestamps[start:stop])
        wrong = times <= 0
        if self._spec.rate_hz:
            wrong |= times > GAP_PERIODS / self._spec.rate_hz
        self._note("cuts at faults of the clock:", int(wrong.sum()))
        edges = [start, *(np.flatnonzero(wrong) + start + 1).tolist(), stop]
        yield from pairwise(edges)

    def _note(self, what: str, count: int) -> None:
        if count:
            self._done[what] += count


def _some(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers[:10])) + (", ..." if len(numbers) > 10 else "")


_MENDED = {"not finite", "actions out of bounds", "clock", "time gaps", "idle", "counts"}


def _with(episode: Episode, part: slice, actions: Array) -> Episode:
    """Steps `part` of an episode, with other actions; only its last piece keeps how it ended."""
    whole, last = part == slice(0, len(episode)), part.stop == len(episode)
    rows = slice(part.start, part.stop + 1)
    return Episode(
        observations=episode.observations[rows],
        actions=actions[part],
        rewards=episode.rewards[part],
        terminated=episode.terminated and last,
        truncated=episode.truncated or not last,
        success=episode.success if last else None,
        final_observed=episode.final_observed or not last,
        timestamps=None if episode.timestamps is None else episode.timestamps[rows],
        cameras=tuple(replace(c, first_step=c.first_step + part.start) for c in episode.cameras),
        source=episode.source if whole else f"{episode.source} steps {part.start} to {part.stop - 1}",
    )
