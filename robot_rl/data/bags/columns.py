"""A recording's mapped topics as columns of numbers on one clock."""

from __future__ import annotations

from array import array
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_rl.data.bags.clocks import align
from robot_rl.data.bags.fields import MissingField, labels, look_up, numbers, stamp_seconds
from robot_rl.data.bags.mapping import Source, TopicMap
from robot_rl.data.bags.recording import Recording
from robot_rl.errors import DataError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Column:
    """One entry over time: stamps, (N,), s since the recording began; rows, (N, D); a label an element, (D,)."""

    times: Floats
    rows: Floats
    names: tuple[str, ...]


@dataclass(frozen=True)
class Columns:
    """All entries of a recording, the marker topic's values by time of arrival, and what a user should know."""

    entries: dict[str, Column]
    marks: tuple[tuple[float, Any], ...]
    notes: tuple[str, ...]


@dataclass
class _Reading:
    """One entry being read."""

    name: str
    source: Source
    log: array[int] = field(default_factory=lambda: array("q"))
    stamp: array[int] = field(default_factory=lambda: array("q"))
    rows: array[float] = field(default_factory=lambda: array("d"))
    names: tuple[str, ...] = ()
    order: dict[tuple[str, ...], list[int]] = field(default_factory=dict[tuple[str, ...], list[int]])

    def take(self, log_ns: int, message: Any) -> None:
        """Add one message."""
        row = self._numbers(message)
        if not self.names:
            self.names = self._names(message, len(row))
        if len(row) != len(self.names):
            raise MissingField(f"gives {len(row)} numbers, the first message gave {len(self.names)}")
        if not np.isfinite(row).all():
            raise MissingField("holds NaN or infinity; map another field, or leave this part of the recording out")
        self.rows.extend(row)
        self.log.append(log_ns)
        if self.source.clock == "header":
            seconds, nanos = stamp_seconds(message, self.source.stamp)
            self.stamp.append(seconds * 1_000_000_000 + nanos)

    def _numbers(self, message: Any) -> list[float]:
        value = numbers(look_up(message, self.source.field))
        return [value[i] for i in self._chosen(message, len(value))] if self.source.joints else value

    def _chosen(self, message: Any, size: int) -> list[int]:
        """Where the joints asked for stand in this message; drivers may change the order."""
        there = tuple(str(n) for n in look_up(message, self.source.labels or _label_path(message)))
        if there not in self.order:
            missing = [j for j in self.source.joints if j not in there]
            if missing or len(there) != size:
                raise MissingField(
                    f"names {', '.join(there) or 'nothing'} for {size} numbers; wanted {', '.join(self.source.joints)}"
                )
            self.order[there] = [there.index(j) for j in self.source.joints]
        return self.order[there]

    def _names(self, message: Any, size: int) -> tuple[str, ...]:
        given = self.source.names or self.source.joints
        if given and len(given) != size:
            raise MissingField(f"gives {size} numbers, the mapping names {len(given)}: {', '.join(given)}")
        if size == 0:
            raise MissingField("gives no number at all")
        return given or tuple(labels(look_up(message, self.source.field)))

    def column(self, base_ns: int, notes: list[str]) -> Column:
        """What was read, on the recorder's clock."""
        log = (np.array(self.log, np.int64) - base_ns) * 1e-9
        stamp = None
        if self.source.clock == "header":
            if not any(self.stamp):
                raise DataError(f"'{self.source.topic}': every header stamp is 0. Set clock: log for {self.name}.")
            stamp = (np.array(self.stamp, np.int64) - base_ns) * 1e-9
        found = align(log, stamp, self.source.offset_s, f"{self.name} ({self.source.topic})")
        notes += found.notes
        rows = np.array(self.rows, np.float64).reshape(len(log), -1)
        if self.name == "reward" and rows.shape[1] != 1:
            raise DataError(
                f"reward: '{self.source.topic}' gives {rows.shape[1]} numbers ({', '.join(self.names)}), a step has "
                f"one reward. Name one of them in field, such as data[0]."
            )
        if self.source.resample == "slerp" and rows.shape[1] != 4:
            raise DataError(f"{self.name}: resample: slerp needs 4 numbers, a quaternion; there are {rows.shape[1]}.")
        return Column(found.times, rows[found.order], self.names)


def read_columns(recording: Recording, mapping: TopicMap) -> Columns:
    """Read every mapped topic of `recording` once.

    Raises:
        DataError: If a topic or field is missing, empty, or not numeric.
    """
    readings = [_Reading(name, source) for name, source in mapping.sources.items()]
    marker = mapping.episodes.topic if mapping.episodes.split == "marker" else ""
    marks: list[tuple[int, Any]] = []
    count = 0
    for logged in recording.messages(_wanted(mapping, marker)):
        count += 1
        for reading in readings:
            if reading.source.topic != logged.topic:
                continue
            try:
                reading.take(logged.log_ns, logged.message)
            except MissingField as error:
                raise DataError(
                    f"{recording.path}: {reading.name}: message {len(reading.log)} of '{logged.topic}', field "
                    f"'{reading.source.field}': {error}."
                ) from error
        if logged.topic == marker:
            try:
                marks.append((logged.log_ns, look_up(logged.message, mapping.episodes.field)))
            except MissingField as error:
                raise DataError(f"{recording.path}: episodes.field: {error}.") from error
    for reading in readings:
        if not reading.log:
            raise DataError(f"{recording.path}: '{reading.source.topic}' holds no whole message. Map another topic.")
    base = min(min(r.log) for r in readings)
    notes: list[str] = list(recording.notes)
    try:
        entries = {r.name: r.column(base, notes) for r in readings}
    except DataError as error:
        raise DataError(f"{recording.path}: {error}") from error
    return Columns(entries, tuple(((ns - base) * 1e-9, value) for ns, value in marks), tuple(dict.fromkeys(notes)))


def _wanted(mapping: TopicMap, marker: str) -> Collection[str]:
    topics = {s.topic: None for s in mapping.sources.values()}
    return list(topics | ({marker: None} if marker else {}))


def _label_path(message: Any) -> str:
    for path in ("name", "joint_names"):
        try:
            look_up(message, path)
        except MissingField:
            continue
        return path
    raise MissingField("has no list 'name' or 'joint_names' to find joints by; give its path under labels")
