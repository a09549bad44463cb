"""ROS bags (rosbag2 in sqlite3 or MCAP, ROS 1) and MCAP files of others, by a mapping of their topics.

https://github.com/ros2/rosbag2, https://mcap.dev. A folder of recordings gives the episodes of all of them.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from robot_rl.data.bags.columns import Column, Columns, read_columns
from robot_rl.data.bags.cut import Span, spans
from robot_rl.data.bags.mapping import Source, TopicMap, load_topic_map
from robot_rl.data.bags.recording import open_recording, recordings_in
from robot_rl.data.bags.steps import FINE, episodes_of, measure_lag
from robot_rl.data.episode import Episode
from robot_rl.data.formats.log import ImportedLog, ReadOptions
from robot_rl.data.lag import Lag
from robot_rl.errors import DataError, SpecMismatch
from robot_rl.spec import Entry, Spec


def read_bag(path: Path, options: ReadOptions) -> ImportedLog:
    """Open a recording, or a folder of them.

    Raises:
        DataError: If no mapping is given, or a recording does not fit it, or none gives an episode.
        ConfigError: If the mapping makes no sense.
    """
    found = recordings_in(path)
    if not found:
        raise DataError(f"{path} holds no recording: no metadata.yaml, no .mcap, .db3 or .bag file.")
    if options.topics is None:
        topics = open_recording(found[0]).topics
        raise DataError(
            f"{path} is a recording of {len(topics)} topics; which of them are observation and action must be said. "
            f"Run `robot-rl data topics {path} --write topics.yaml`, look through that file, then import with "
            f"--topics topics.yaml."
        )
    mapping = load_topic_map(options.topics)
    episodes: list[Episode] = []
    notes: list[str] = []
    read: list[tuple[Columns, list[Span]]] = []
    for file in found:
        columns = _delayed(read_columns(open_recording(file), mapping), mapping.lag_s)
        _require_same_names(columns, read, file)
        notes += [n if n.startswith(str(file)) or len(found) == 1 else f"{file.name}: {n}" for n in columns.notes]
        cuts = spans(columns, mapping.episodes)
        episodes += episodes_of(columns, cuts, mapping, file.name, notes)
        read.append((columns, cuts))
    if not episodes:
        raise DataError(
            f"{path} gives no episode with this mapping: {'; '.join(notes) or 'topics never overlap in time'}."
        )
    notes.append(_lag_note(measure_lag(read, mapping), mapping))
    if mapping.reward is None:
        notes.append("no reward is mapped: rewards are stored as 0")
    spec = _spec(mapping, read, episodes, notes)
    return ImportedLog(format="bag", spec=spec, count=len(episodes), episodes=iter(episodes), notes=tuple(notes))


def _delayed(columns: Columns, lag_s: float) -> Columns:
    """The actions' stamps moved by what the recording delayed."""
    moved = {k: replace(c, times=c.times + lag_s) if k.startswith("action.") else c for k, c in columns.entries.items()}
    return replace(columns, entries=moved)


def _require_same_names(columns: Columns, former: list[tuple[Columns, list[Span]]], file: Path) -> None:
    for name, column in columns.entries.items() if former else ():
        before = former[0][0].entries[name]
        if before.names != column.names:
            raise SpecMismatch(
                f"{file}: {name} orders {', '.join(column.names)}, the first recording {', '.join(before.names)}. Name "
                f"its joints in the mapping, so that they are found wherever they stand."
            )


def _lag_note(lag: Lag | None, mapping: TopicMap) -> str:
    moved = f" (with lag_s: {mapping.lag_s:g} applied)" if mapping.lag_s else ""
    if lag is None:
        return f"lag: no action correlates clearly with an observation, so none could be estimated{moved}"
    seconds = lag.steps / (FINE * mapping.rate_hz)
    sure = f"correlation {lag.correlation:.2f}, {lag.votes} action dimensions"
    return (
        f"lag: actions show in the observations after {seconds:.3f} s, {seconds * mapping.rate_hz:.1f} steps{moved} "
        f"({sure}); if the recording caused it and not the robot, correct it with lag_s: {mapping.lag_s + seconds:.3f}"
    )


def _spec(mapping: TopicMap, read: list[tuple[Columns, list[Span]]], episodes: list[Episode], notes: list[str]) -> Spec:
    columns = read[0][0].entries
    observation = tuple(_entry(k, s, columns[f"observation.{k}"]) for k, s in mapping.observation.items())
    action: list[Entry] = []
    start = 0
    for name, source in mapping.action.items():
        entry = _entry(name, source, columns[f"action.{name}"])
        if not source.low:
            part = np.concatenate([e.actions[:, start : start + entry.size] for e in episodes])
            low, high = part.min(0), part.max(0)
            wide = np.where(high > low, high, low + 1.0)  # a constant action still needs a range to scale by
            entry = Entry(entry.name, entry.names, entry.unit, tuple(low), tuple(wide), entry.frame)
            notes.append(f"action.{name} has no bounds in the mapping: taken from the data; write low and high into it")
        action.append(entry)
        start += entry.size
    return Spec(observation, tuple(action), rate_hz=mapping.rate_hz, control=mapping.control, env_id=mapping.env_id)


def _entry(name: str, source: Source, column: Column) -> Entry:
    if source.low and len(source.low) != len(column.names):
        raise SpecMismatch(f"{name}: {len(column.names)} numbers, but {len(source.low)} bounds in the mapping.")
    return Entry(name, column.names, source.unit, source.low, source.high, source.frame)
