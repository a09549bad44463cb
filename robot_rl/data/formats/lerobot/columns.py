"""Which of a LeRobot dataset's columns make up the observation and the action."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robot_rl.data.formats.arrow import open_parquet, read_columns
from robot_rl.data.formats.bounds import Bounds
from robot_rl.data.formats.contradictions import Contradictions
from robot_rl.data.formats.lerobot.info import Feature, LeRobotInfo, element_names
from robot_rl.data.formats.log import ReadOptions
from robot_rl.errors import DataError, SpecMismatch
from robot_rl.spec import Entry, Spec

_STATE_KEYS = ("state", "states", "observation/state", "observations.state", "qpos")
_ACTION_KEYS = ("action", "actions")


@dataclass(frozen=True)
class Columns:
    """Chosen columns with their widths, in order."""

    observation: tuple[tuple[Feature, int], ...]
    action: tuple[tuple[Feature, int], ...]

    @property
    def obs_keys(self) -> tuple[str, ...]:
        """Columns of the observation."""
        return tuple(f.key for f, _ in self.observation)

    @property
    def action_keys(self) -> tuple[str, ...]:
        """Columns of the action."""
        return tuple(f.key for f, _ in self.action)


def choose_columns(
    info: LeRobotInfo, file: Path, options: ReadOptions, seen: Contradictions, notes: list[str]
) -> Columns:
    """Take `observation.*` and `action`, or what other recorders call them.

    Args:
        info: What the dataset says of itself.
        file: Its first data file.
        options: `obs_keys` chooses the observation.
        seen: Told of columns that info.json lists and the files lack.
        notes: Told what is left out.

    Raises:
        DataError: If there is no observation or no action among the columns.
    """
    names: list[str] = open_parquet(file).schema_arrow.names
    flat: dict[str, Feature] = {}
    for feature in info.features.values():
        if feature.numeric and feature.key not in names and not options.obs_keys:
            seen.add(f"info.json lists the column '{feature.key}', the data files have {', '.join(names)}")
        elif feature.numeric and feature.key in names and len(feature.shape) <= 1:
            flat[feature.key] = feature
    observed = options.obs_keys or _observed(flat)
    acted = [k for k in _ACTION_KEYS if k in flat][:1] or [k for k in flat if k.startswith("action.")]
    for what, keys in (("observation", observed), ("action", acted)):
        missing = [k for k in keys if k not in flat]
        if missing or not keys:
            wanted = ", ".join(missing) or f"such as {_likely(what)}"
            tables = [f"'{f.key}' {list(f.shape)}" for f in info.features.values() if f.numeric and len(f.shape) > 1]
            why = f" Not one row of numbers a step, and so left out: {', '.join(tables)}." if tables else ""
            raise DataError(
                f"{info.root}: no {what} column {wanted}; numeric columns are {', '.join(flat) or 'none'}.{why} Choose "
                f"observations with --obs-keys; an action is called 'action'."
            )
    rest = [
        f.key
        for f in info.features.values()
        if f.key.startswith(("observation", "state")) and not f.camera and f.key not in observed
    ]
    if rest:
        notes.append(f"not part of the observation: {', '.join(rest)} (--obs-keys chooses)")
    first = _first_row(file, [*observed, *acted], options)
    return Columns(
        tuple((flat[k], _width(flat[k], first, seen)) for k in observed),
        tuple((flat[k], _width(flat[k], first, seen)) for k in acted),
    )


def spec_of(info: LeRobotInfo, columns: Columns, bounds: Bounds, notes: list[str]) -> Spec:
    """The dataset's spec: what our exporter wrote, else the features' names."""
    if info.spec is not None:
        try:
            spec = Spec.from_dict(dict(info.spec))
        except SpecMismatch as error:
            raise DataError(f"{info.root}/meta/info.json: 'robot_rl' holds no spec: {error}") from error
        widths = sum(w for _, w in columns.observation), sum(w for _, w in columns.action)
        if widths == (spec.obs_dim, spec.action_dim):
            return spec
        raise DataError(
            f"{info.root}: its spec has {spec.obs_dim} observations and {spec.action_dim} actions, its columns "
            f"{widths[0]} and {widths[1]}. Export it again."
        )
    observation = tuple(Entry(f.key, _names(f, w, notes)) for f, w in columns.observation)
    action: list[Entry] = []
    start = 0
    for feature, width in columns.action:
        part = slice(start, start + width)
        action.append(Entry(feature.key, _names(feature, width, notes), "1", bounds[0][part], bounds[1][part]))
        start += width
    notes.append("units are not part of LeRobot's format: they are left unnamed ('1')")
    return Spec(observation, tuple(action), rate_hz=info.fps)


def _observed(flat: Sequence[str] | dict[str, Feature]) -> tuple[str, ...]:
    found = tuple(k for k in flat if k.startswith("observation."))
    return found or tuple(k for k in _STATE_KEYS if k in flat)[:1]


def _likely(what: str) -> str:
    return "'observation.state'" if what == "observation" else "'action'"


def _names(feature: Feature, width: int, notes: list[str]) -> tuple[str, ...]:
    names, own = element_names(feature, width)
    if not own and feature.names and width > 1:
        notes.append(f"'{feature.key}' has {width} elements, which its names do not tell apart: they are numbered")
    return names


def _first_row(file: Path, columns: Sequence[str], options: ReadOptions) -> Mapping[str, Any]:
    """What the first file's first row holds; nothing of a file that is empty or, where it is left out, damaged."""
    try:
        return next(iter(read_columns(file, columns).slice(0, 1).to_pylist()), {})
    except DataError:
        if options.damaged is None:
            raise
        return {}


def _width(feature: Feature, first: Mapping[str, Any], seen: Contradictions) -> int:
    """Elements a row: what the first file's first row holds, held against info.json."""
    stated = feature.shape[0] if feature.shape else 1
    value = first.get(feature.key)
    actual = stated if value is None else _elements(value)
    if actual != stated:
        seen.add(f"info.json gives '{feature.key}' {stated} elements, the rows have {actual}")
    if actual < 1:
        raise DataError(f"feature '{feature.key}' has {actual} elements a row. Choose others with --obs-keys.")
    return actual


def _elements(value: Any) -> int:
    return sum(map(_elements, value)) if isinstance(value, list) else 1
