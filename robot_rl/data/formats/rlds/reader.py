"""RLDS datasets (TensorFlow Datasets, Open X-Embodiment): TFRecord with one example an episode.

https://github.com/google-research/rlds. By that convention the last step holds the final observation and its
action means nothing; most robot datasets put a real action there instead. It is taken for a placeholder only
where it is zero, with a zero reward, in every episode; a note says which.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_rl.data.episode import Episode
from robot_rl.data.formats.bounds import LoggedRange
from robot_rl.data.formats.contradictions import Contradictions
from robot_rl.data.formats.log import ImportedLog, ReadOptions
from robot_rl.data.formats.rlds.features import STEPS, StepFeature, guessed_features, read_features
from robot_rl.data.formats.rlds.files import Shard, find_shards, is_rlds
from robot_rl.data.formats.rlds.tf_example import Values, parse_example
from robot_rl.data.formats.rlds.tfrecord import records
from robot_rl.data.pictures.cameras import CameraRef
from robot_rl.errors import DataError
from robot_rl.spec import Spec, vector

_OBS, _ACTION = "observation", "action"
_TEXT = ("language_instruction", "observation/natural_language_instruction", "natural_language_instruction")
_LONGEST_TENSOR = 2**28  # bytes a compressed tensor may unpack to


@dataclass(frozen=True)
class _Columns:
    observation: tuple[StepFeature, ...]
    action: tuple[StepFeature, ...]
    cameras: tuple[StepFeature, ...]


@dataclass
class _Scan:
    """What one pass over all records found."""

    episodes: int = 0
    uncut: int = 0  # episodes whose last step is marked is_last
    placeholder: bool = True  # the last action is zero, with a zero reward, so far
    rewarded: bool = False
    range: LoggedRange = field(default_factory=LoggedRange)
    texts: set[str] = field(default_factory=set[str])
    by_split: dict[str, tuple[int, ...]] = field(default_factory=dict[str, tuple[int, ...]])


def read_rlds(path: Path, options: ReadOptions) -> ImportedLog:
    """Open an RLDS dataset folder, or one of its files.

    Raises:
        DataError: If a file is missing, cut or damaged, or the metadata contradicts the records.
    """
    path = _version_folder(path)
    seen = Contradictions(path, options.trust_rows)
    shards = find_shards(path, options.filter, seen)
    features = read_features(path if path.is_dir() else path.parent)
    notes: list[str] = []
    if features is None:
        offset, record = next(records(shards[0].path), (0, b""))
        features = guessed_features(parse_example(record, f"{shards[0].path} at byte {offset}"), str(shards[0].path))
        notes.append("no features.json: features and widths are those of the first episode")
    columns = _choose(path, features, options, notes)
    scan = _scan(shards, columns, seen)
    drop = scan.placeholder and scan.uncut == scan.episodes
    bounds, why = scan.range.bounds()
    spec = Spec(
        tuple(vector(f.key, f.size) for f in columns.observation),
        _action_entries(columns, bounds[0], bounds[1]),
    )
    notes += [why, "RLDS states neither rate nor units: both are left open", *_scan_notes(scan, columns, drop=drop)]
    return ImportedLog(
        format="rlds",
        spec=spec,
        count=scan.episodes,
        episodes=_episodes(shards, columns, drop=drop),
        notes=(*notes, *seen.notes),
        splits={} if options.filter else scan.by_split,
    )


def _version_folder(path: Path) -> Path:
    """`path`, or the only version folder in it."""
    if path.is_dir() and not is_rlds(path):
        inside = [p for p in sorted(path.iterdir()) if p.is_dir() and is_rlds(p)]
        if len(inside) == 1:
            return inside[0]
        raise DataError(
            f"{path} holds {len(inside)} RLDS datasets ({', '.join(p.name for p in inside) or 'none'}); give the "
            f"folder with features.json and the TFRecord files."
        )
    return path


def _choose(path: Path, features: Mapping[str, StepFeature], options: ReadOptions, notes: list[str]) -> _Columns:
    def named(what: str) -> tuple[StepFeature, ...]:
        return tuple(f for k, f in features.items() if f.kind == "numbers" and (k == what or k.startswith(what + "/")))

    observed = tuple(f for f in named(_OBS) if len(f.shape) <= 1)
    if options.obs_keys:
        keys = [k if k in features else f"{_OBS}/{k}" for k in options.obs_keys]
        missing = [k for k in keys if k not in features or features[k].kind != "numbers"]
        if missing:
            raise DataError(f"{path}: no numeric feature {', '.join(missing)}; there are: {_shown(features)}.")
        observed = tuple(features[k] for k in keys)
    acted = named(_ACTION)
    if not observed or not acted:
        lacking = "observation of numbers" if not observed else "action of numbers"
        raise DataError(
            f"{path}: no {lacking} among its step features: {_shown(features)}. Learners here use vectors; choose "
            f"with --obs-keys."
        )
    rest = [f.key for f in features.values() if f.key.startswith(_OBS) and f.kind != "picture" and f not in observed]
    if rest:
        notes.append(f"not part of the observation: {', '.join(rest)} (--obs-keys chooses)")
    return _Columns(observed, acted, tuple(f for f in features.values() if f.kind == "picture"))


def _shown(features: Mapping[str, StepFeature]) -> str:
    return ", ".join(f"{f.key} ({f.dtype} {list(f.shape)})" for f in features.values()) or "nothing"


def _action_entries(columns: _Columns, low: tuple[float, ...], high: tuple[float, ...]) -> tuple[Any, ...]:
    entries: list[Any] = []
    start = 0
    for feature in columns.action:
        part = slice(start, start + feature.size)
        entries.append(vector(feature.key, feature.size, low=low[part], high=high[part]))
        start += feature.size
    return tuple(entries)


def _scan(shards: list[Shard], columns: _Columns, seen: Contradictions) -> _Scan:
    found = _Scan()
    for shard in shards:
        count = 0
        for offset, record in records(shard.path):
            steps = _Steps(parse_example(record, f"{shard.path} at byte {offset}"), shard.path, offset, columns)
            _look(steps, found, seen)
            count += 1
        if shard.stated is not None and shard.stated != count:
            seen.add(f"dataset_info.json gives {shard.path.name} {shard.stated} episodes, it holds {count}")
        here = tuple(range(found.episodes, found.episodes + count))
        found.by_split[shard.split] = found.by_split.get(shard.split, ()) + here
        found.episodes += count
    if not found.episodes:
        raise DataError(f"{shards[0].path.parent} holds no episodes.")
    return found


def _look(steps: _Steps, found: _Scan, seen: Contradictions) -> None:
    actions, rewards = steps.numbers(steps.columns.action), steps.column("reward")
    found.range.add(actions)
    found.rewarded |= rewards is not None
    idle = len(actions) > 1 and not actions[-1].any() and (rewards is None or not rewards[-1])
    found.placeholder &= idle
    for name, where in (("is_first", 0), ("is_last", len(actions) - 1), ("is_terminal", len(actions) - 1)):
        flags = steps.column(name)
        odd = [] if flags is None else [int(i) for i in np.flatnonzero(flags) if i != where]
        if odd:
            seen.add(f"{steps.where} marks step {odd[0]} of {len(actions)} as {name}")
    last = steps.column("is_last")
    found.uncut += bool(last is not None and last[-1])
    text = next((steps.example[STEPS + k] for k in _TEXT if STEPS + k in steps.example), None)
    if isinstance(text, list) and text:
        found.texts.add(bytes(text[0]).decode(errors="replace"))


def _scan_notes(scan: _Scan, columns: _Columns, *, drop: bool) -> list[str]:
    notes: list[str] = []
    if len(scan.by_split) > 1:
        notes.append(f"splits read together: {', '.join(f'{k} ({len(n)})' for k, n in scan.by_split.items())}")
    if drop:
        notes.append("the last step of every episode has a zero action: it is the final observation, not an action")
    else:
        notes.append("the last step's action is kept; the observation after it is not logged")
    if scan.uncut < scan.episodes:
        notes.append(f"{scan.episodes - scan.uncut} episodes are not marked is_last at their end: they may be cut")
    if not scan.rewarded:
        notes.append("no reward: rewards are stored as 0")
    if scan.texts:
        some = sorted(scan.texts)
        notes.append(
            f"{len(some)} instructions, which the observation does not tell apart: {'; '.join(some[:3])}"[:300]
        )
    return notes


def _episodes(shards: list[Shard], columns: _Columns, *, drop: bool) -> Iterator[Episode]:
    for shard in shards:
        for number, (offset, record) in enumerate(records(shard.path)):
            example = parse_example(record, f"{shard.path} at byte {offset}")
            yield _episode(_Steps(example, shard.path, offset, columns), number, drop=drop)


def _episode(steps: _Steps, number: int, *, drop: bool) -> Episode:
    columns = steps.columns
    obs, actions = steps.numbers(columns.observation), steps.numbers(columns.action)
    rewards, terminal = steps.column("reward"), steps.column("is_terminal")
    rewards = np.zeros(len(actions)) if rewards is None else rewards
    terminated = bool(terminal is not None and terminal[-1])
    if drop:
        actions, rewards = actions[:-1], rewards[:-1]
    return Episode(
        observations=obs if drop else np.vstack([obs, obs[-1:]]),
        actions=actions,
        rewards=rewards.astype(np.float32),
        terminated=terminated,
        truncated=not terminated,
        final_observed=drop or terminated,  # what follows a terminal step is never used
        source=f"{steps.path.name}:record {number}",
        cameras=tuple(_cameras(steps)),
    )


def _cameras(steps: _Steps) -> Iterator[CameraRef]:
    for feature in steps.columns.cameras:
        height, width, channels = (*feature.shape, 0, 0, 0)[:3]
        yield CameraRef(
            name=feature.key.rpartition("/")[2],
            shape=(height, width, channels),
            fps=0.0,
            store="tfrecord",
            file=str(steps.path.absolute()),
            key=STEPS + feature.key,
            start=float(steps.offset),
        )


class _Steps:
    """One example's steps as arrays."""

    def __init__(self, example: dict[str, Values], path: Path, offset: int, columns: _Columns) -> None:
        self.example, self.path, self.offset, self.columns = example, path, offset, columns
        self.where = f"{path} at byte {offset}"
        first = columns.action[0]
        self.count = len(self._values(first)) // max(first.size, 1)
        if self.count == 0:
            raise DataError(f"{self.where}: an episode without steps. Leave it out of the dataset.")

    def numbers(self, features: tuple[StepFeature, ...]) -> NDArray[np.float32]:
        """Features side by side, (T, D), finite."""
        parts: list[NDArray[Any]] = []
        for feature in features:
            values = self._values(feature)
            if len(values) != self.count * feature.size:
                raise DataError(
                    f"{self.where}: '{feature.key}' has {len(values)} numbers; {self.count} steps of {feature.size} "
                    f"need {self.count * feature.size}. The features have changed or the episode is damaged."
                )
            parts.append(values.reshape(self.count, feature.size))
        rows = np.hstack(parts).astype(np.float32)
        if not np.isfinite(rows).all():
            row = int(np.argwhere(~np.isfinite(rows))[0][0])
            raise DataError(
                f"{self.where}: NaN or infinity in step {row} of {', '.join(f.key for f in features)}. Repair it or "
                f"leave the episode out."
            )
        return rows

    def column(self, name: str) -> NDArray[np.float32] | None:
        """One number a step, (T,); None where there is no such feature."""
        if STEPS + name not in self.example:
            return None
        return self.numbers((StepFeature(name, "numbers", "float32", ()),))[:, 0]

    def _values(self, feature: StepFeature) -> NDArray[Any]:
        values = self.example.get(STEPS + feature.key)
        if values is None:
            raise DataError(
                f"{self.where} lacks '{STEPS}{feature.key}'; it has {', '.join(list(self.example)[:8])}. The episode "
                f"and features.json are of different datasets."
            )
        if isinstance(values, np.ndarray):
            return values
        return np.concatenate([self._encoded(bytes(v), feature) for v in values]) if values else np.zeros(0)

    def _encoded(self, data: bytes, feature: StepFeature) -> NDArray[Any]:
        """A tensor kept as bytes, one a step."""
        try:
            if feature.encoding == "zlib":
                unpacker = zlib.decompressobj()
                data = unpacker.decompress(data, _LONGEST_TENSOR)
            return np.frombuffer(data, np.dtype(feature.dtype).newbyteorder("<"))
        except (zlib.error, ValueError, TypeError) as error:
            raise DataError(
                f"{self.where}: '{feature.key}' ({feature.dtype}, encoding {feature.encoding}) cannot be decoded "
                f"({error}). Convert the dataset to plain tensors."
            ) from error
