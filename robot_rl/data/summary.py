"""What is in a dataset: the figures of `robot-rl data info`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table

from robot_rl.console import key_value_table
from robot_rl.data.dataset import Dataset
from robot_rl.data.pictures.cameras import CameraSummary, cameras_of
from robot_rl.spec import Array, Entry


@dataclass(frozen=True, kw_only=True)
class EntrySummary:
    """Range of one spec entry over all steps; `low` and `high` are the spec's bounds, None where open."""

    name: str
    size: int
    unit: str
    frame: str
    min: float
    mean: float
    max: float
    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True)
class DatasetSummary:
    """Figures over a dataset; lengths in steps, duration in s (None where the rate is unknown)."""

    path: str
    origin: str
    env_id: str
    control: str
    rate_hz: float
    spec_digest: str
    episodes: int
    steps: int
    duration_s: float | None
    length_min: int
    length_median: float
    length_max: int
    return_min: float
    return_mean: float
    return_max: float
    successes: int
    failures: int
    success_unknown: int
    terminated: int
    truncated: int
    final_unobserved: int
    observation: tuple[EntrySummary, ...]
    action: tuple[EntrySummary, ...]
    notes: tuple[str, ...]
    cameras: tuple[CameraSummary, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON types."""
        return asdict(self)

    def table(self) -> RenderableType:
        """The figures for a terminal."""
        rate = f"{self.rate_hz:g} Hz" if self.rate_hz else "unknown"
        duration = f", {self.duration_s:,.1f} s" if self.duration_s is not None else ""
        known = self.successes + self.failures
        share = f"{self.successes} of {known} ({self.successes / known:.0%})" if known else "unknown"
        rows = {
            "origin": self.origin,
            "environment": self.env_id or "unknown",
            "episodes": f"{self.episodes:,}",
            "steps": f"{self.steps:,}{duration}",
            "length": f"{self.length_min} / {self.length_median:g} / {self.length_max} (min, median, max)",
            "rate": f"{rate}, control {self.control}",
            "return": f"{self.return_min:.2f} / {self.return_mean:.2f} / {self.return_max:.2f} (min, mean, max)",
            "success": share + (f", {self.success_unknown} unknown" if known and self.success_unknown else ""),
            "ends": f"{self.terminated} terminated, {self.truncated} truncated"
            + (f", {self.final_unobserved} without last observation" if self.final_unobserved else ""),
        }
        rows |= {f"camera {camera.name}": camera.line for camera in self.cameras}
        rows |= {f"note {i}": note for i, note in enumerate(self.notes, start=1)}
        parts: list[RenderableType] = [key_value_table(self.path, rows)]
        parts += [_entries("observation", self.observation), _entries("action", self.action)]
        return Group(*parts)


def summarise(dataset: Dataset) -> DatasetSummary:
    """Read a dataset once and sum it up.

    Raises:
        DataError: If an episode cannot be read.
    """
    lengths: list[int] = []
    returns: list[float] = []
    ends: list[tuple[bool, bool, bool]] = []
    success: list[bool | None] = []
    seen, done = _Range(dataset.spec.obs_dim), _Range(dataset.spec.action_dim)
    for episode in dataset:
        lengths.append(len(episode))
        returns.append(episode.return_)
        ends.append((episode.terminated, episode.truncated, not episode.final_observed))
        success.append(episode.success)
        seen.add(episode.observations)
        done.add(episode.actions)
    terminated, truncated, unseen = (int(n) for n in np.sum(ends, axis=0))
    rate = dataset.spec.rate_hz
    return DatasetSummary(
        path=str(dataset.path),
        origin=dataset.origin,
        env_id=dataset.spec.env_id,
        control=dataset.spec.control,
        rate_hz=rate,
        spec_digest=dataset.spec.digest,
        episodes=len(lengths),
        steps=sum(lengths),
        duration_s=sum(lengths) / rate if rate else None,
        length_min=min(lengths),
        length_median=float(np.median(lengths)),
        length_max=max(lengths),
        return_min=min(returns),
        return_mean=float(np.mean(returns)),
        return_max=max(returns),
        successes=success.count(True),
        failures=success.count(False),
        success_unknown=success.count(None),
        terminated=terminated,
        truncated=truncated,
        final_unobserved=unseen,
        observation=_per_entry(dataset.spec.observation, seen),
        action=_per_entry(dataset.spec.action, done),
        notes=dataset.notes,
        cameras=tuple(cameras_of(dataset)),
    )


class _Range:
    """Running minimum, maximum and mean of rows."""

    def __init__(self, width: int) -> None:
        self.min, self.max = np.full(width, np.inf), np.full(width, -np.inf)
        self.sum, self.count = np.zeros(width), 0

    def add(self, rows: Array) -> None:
        self.min, self.max = np.minimum(self.min, rows.min(0)), np.maximum(self.max, rows.max(0))
        self.sum, self.count = self.sum + rows.sum(0, dtype=np.float64), self.count + len(rows)


def _per_entry(entries: tuple[Entry, ...], seen: _Range) -> tuple[EntrySummary, ...]:
    found: list[EntrySummary] = []
    start = 0
    for entry in entries:
        part = slice(start, start + entry.size)
        start += entry.size
        low, high = min(entry.low), max(entry.high)
        found.append(
            EntrySummary(
                name=entry.name,
                size=entry.size,
                unit=entry.unit,
                frame=entry.frame,
                min=float(seen.min[part].min()),
                mean=float(seen.sum[part].mean() / seen.count),
                max=float(seen.max[part].max()),
                low=low if np.isfinite(low) else None,
                high=high if np.isfinite(high) else None,
            )
        )
    return tuple(found)


def _entries(title: str, entries: tuple[EntrySummary, ...]) -> Table:
    table = Table(title=title, title_justify="left")
    for column in ("entry", "size", "unit", "frame", "min", "mean", "max", "bounds"):
        table.add_column(column, justify="left" if column in ("entry", "unit", "frame") else "right", overflow="fold")
    for e in entries:
        bounds = "" if e.low is None and e.high is None else f"{e.low:g} to {e.high:g}"
        table.add_row(e.name, str(e.size), e.unit, e.frame, f"{e.min:.3g}", f"{e.mean:.3g}", f"{e.max:.3g}", bounds)
    return table
