"""Where each episode's rows stand in a LeRobot dataset's files, and whether they agree with what it lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from robot_rl.data.formats.arrow import integers, matrix, open_parquet, read_columns, scalars
from robot_rl.data.formats.bounds import LoggedRange
from robot_rl.data.formats.contradictions import Contradictions
from robot_rl.data.formats.lerobot.columns import Columns
from robot_rl.data.formats.lerobot.info import LeRobotInfo, filled
from robot_rl.data.formats.lerobot.listing import Listed
from robot_rl.data.formats.log import ReadOptions, sound
from robot_rl.errors import DataError

RATE_TOLERANCE = 0.05  # share by which the rows' median rate may differ from info.json's fps
GAP_PERIODS = 1.5


@dataclass(frozen=True)
class Place:
    """Rows `start` to `start + rows - 1` of `file`."""

    file: Path
    start: int
    rows: int


class EpisodeRows(NamedTuple):
    """What is read of an episode in the pass over all files.

    Args:
        episode: Its index.
        place: Of its rows.
        actions: (N, A).
        steps: Seconds from each row to the next, (N - 1,); empty without timestamps.
        tasks: task_index of each row, (N,); None without.
    """

    episode: int
    place: Place
    actions: NDArray[np.float64]
    steps: NDArray[np.float64]
    tasks: NDArray[np.int64] | None


@dataclass
class Rows:
    """What one pass over all data files found, without the observations.

    Args:
        places: Episodes by index.
        tasks: Rows by task_index.
        range: Of the actions.
        periods: Median time between rows, s, one an episode.
        gaps: Times between rows longer than 1.5 periods.
    """

    places: dict[int, Place] = field(default_factory=dict[int, Place])
    tasks: dict[int, int] = field(default_factory=dict[int, int])
    range: LoggedRange = field(default_factory=LoggedRange)
    periods: list[float] = field(default_factory=list[float])
    gaps: int = 0

    @property
    def total(self) -> int:
        """Rows of all episodes."""
        return sum(p.rows for p in self.places.values())

    def add(self, one: EpisodeRows) -> None:
        """Take in an episode."""
        self.places[one.episode] = one.place
        self.range.add(one.actions)
        if one.tasks is not None:
            for task, count in zip(*np.unique(one.tasks, return_counts=True), strict=True):
                self.tasks[int(task)] = self.tasks.get(int(task), 0) + int(count)
        if len(one.steps):
            period = float(np.median(one.steps))
            self.periods.append(period)
            self.gaps += int((one.steps > GAP_PERIODS * period).sum())


@dataclass(frozen=True)
class Stated:
    """What a dataset says of its rows.

    Args:
        info: Its info.json.
        columns: Those that are read.
        listed: Its listing of episodes.
        seen: Takes what contradicts the rows.
    """

    info: LeRobotInfo
    columns: Columns
    listed: Mapping[int, Listed]
    seen: Contradictions


def scan(stated: Stated, files: Sequence[Path], options: ReadOptions) -> Rows:
    """Read every file's indices, times and actions, and hold them against the listing and info.json.

    Raises:
        DataError: If a file is damaged or misses a column, or a contradiction is not to be trusted over, unless
            `options` leaves out what is damaged.
    """
    found, owners = Rows(), dict[int, Path]()
    for part in sound(files, partial(_read_file, stated, files[0]), options):
        for cut in part.cuts:
            _require_one_place(cut.episode, part.path, owners)
        for one in sound(part.cuts, partial(_read_episode, stated, part), options):
            found.add(one)
    if not found.places:
        raise DataError(f"{stated.info.root} holds no episodes: its data files have no rows{_why(options)}.")
    _hold_against_totals(stated, found, whole=not options.damaged)
    return found


def _require_one_place(episode: int, file: Path, owners: dict[int, Path]) -> None:
    """Refuse an episode whose rows stand in two places: neither part can be vouched for, so none is left out."""
    if episode in owners:
        raise DataError(
            f"{file}: the rows of episode {episode} stand in two places (also in {owners[episode]}). They were mixed "
            f"when datasets were joined; export it again."
        )
    owners[episode] = file


class _Cut(NamedTuple):
    """An episode's rows within its file."""

    episode: int
    start: int
    stop: int


class _File(NamedTuple):
    """One data file, and which of its rows belong to which episode."""

    path: Path
    table: Any
    cuts: tuple[_Cut, ...]


def _read_file(stated: Stated, first: Path, file: Path) -> _File:
    columns = stated.columns
    needed = {*columns.obs_keys, *columns.action_keys}
    names = open_parquet(file).schema_arrow.names
    missing = sorted(needed - set(names))
    if missing:
        raise DataError(
            f"{file} has no column {', '.join(missing)}, which {first.name} has; its columns are {', '.join(names)}. "
            f"Two schemas in one dataset: export them apart, or choose columns that all have with --obs-keys."
        )
    table = read_columns(
        file, ["episode_index", "frame_index", "index", "timestamp", "task_index", *columns.action_keys]
    )
    if "episode_index" in names:
        owner = integers(table, "episode_index", str(file)) if len(table) else np.zeros(0, np.int64)
    elif stated.info.major == 2 and (digits := file.stem.rpartition("_")[2]).isdigit():
        owner = np.full(len(table), int(digits))
    else:
        raise DataError(f"{file} has no column episode_index, so its episodes can't be told apart. Export it again.")
    bounds = np.unique([0, *np.flatnonzero(np.diff(owner)) + 1, len(owner)]).tolist()
    return _File(file, table, tuple(_Cut(int(owner[a]), a, b) for a, b in pairwise(bounds)))


def _read_episode(stated: Stated, part: _File, cut: _Cut) -> EpisodeRows:
    columns, seen = stated.columns, stated.seen
    table = part.table.slice(cut.start, cut.stop - cut.start)
    where, names = f"{part.path} (episode {cut.episode})", part.table.column_names

    def whole(name: str) -> Any:
        return integers(table, name, where) if name in names else None

    actions = np.hstack([sized_matrix(table, f.key, width, where) for f, width in columns.action])
    frames, index, tasks = whole("frame_index"), whole("index"), whole("task_index")
    if frames is not None and (frames != np.arange(len(table))).any():
        row = int(np.flatnonzero(frames != np.arange(len(table)))[0])
        seen.add(f"frame_index of episode {cut.episode} is {frames[row]} in its row {row}")
    times = scalars(table, "timestamp", where) if "timestamp" in names else np.zeros(0)
    steps = np.diff(times)
    if (steps <= 0).any():
        row = int(np.flatnonzero(steps <= 0)[0])
        seen.add(
            f"timestamps of episode {cut.episode} stand still or run back {int((steps <= 0).sum())} times, first from "
            f"{times[row]:.4f} s in row {row} to {times[row + 1]:.4f} s"
        )
    if (entry := stated.listed.get(cut.episode)) is not None:
        first = None if index is None else int(index[0])
        _hold_against_listing(stated, part.path, entry, rows=len(table), first=first)
    return EpisodeRows(cut.episode, Place(part.path, cut.start, len(table)), actions, steps, tasks)


def _hold_against_listing(stated: Stated, file: Path, entry: Listed, *, rows: int, first: int | None) -> None:
    """One episode's rows against its line of the listing."""
    info, seen = stated.info, stated.seen
    if entry.length is not None and entry.length != rows:
        seen.add(f"the listing gives episode {entry.index} {entry.length} rows, {file.name} has {rows}")
    chunk, number = entry.number("data/chunk_index"), entry.number("data/file_index")
    if chunk is not None and number is not None:
        place = filled(info.data_path, info.root, chunk_index=int(chunk), file_index=int(number))
        if place.absolute() != file.absolute():
            seen.add(
                f"the listing puts episode {entry.index} into {place.name} of {place.parent.name}, its rows stand in "
                f"{file.name} of {file.parent.name}"
            )
    begin, end = entry.number("dataset_from_index"), entry.number("dataset_to_index")
    if begin is not None and end is not None:
        if end - begin != rows:
            seen.add(
                f"the listing gives episode {entry.index} rows {begin:g} to {end:g}, which are not its {rows} rows"
            )
        elif first is not None and first != begin:
            seen.add(f"the listing starts episode {entry.index} at index {begin:g}, its rows at {first}")


def _hold_against_totals(stated: Stated, found: Rows, *, whole: bool) -> None:
    """The sums of all rows; where not the `whole` was read, only what does not depend on it."""
    info, listed, seen = stated.info, stated.listed, stated.seen
    for what, said, actual in (
        ("total_episodes", info.total_episodes, len(found.places)),
        ("total_frames", info.total_frames, found.total),
    ):
        if whole and said is not None and said != actual:
            seen.add(f"info.json says {what} {said}, the data files hold {actual}")
    lost, extra = sorted(set(listed) - set(found.places)), sorted(set(found.places) - set(listed))
    if whole and listed and lost:
        seen.add(f"{len(lost)} listed episodes have no rows, the first is episode {lost[0]}")
    if listed and extra:
        seen.add(f"{len(extra)} episodes have rows but are not listed, the first is episode {extra[0]}")
    if found.periods:
        rate = 1 / period if (period := float(np.median(found.periods))) > 0 else 0.0
        if abs(rate / info.fps - 1) > RATE_TOLERANCE:
            seen.add(f"info.json says fps {info.fps:g}, the timestamps come at {rate:.2f} Hz")


def sized_matrix(table: Any, key: str, width: int, where: str) -> Any:
    """`arrow.matrix`, refused where its width is not the first file's."""
    values = matrix(table, key, where)
    if values.shape[1] != width:
        raise DataError(
            f"{where}: '{key}' has {values.shape[1]} numbers a row, {width} in the first file. Two schemas in one "
            f"dataset: export them apart."
        )
    return values


def _why(options: ReadOptions) -> str:
    """The first of what was left out, to explain that nothing remained."""
    return f", or none that can be read: {options.damaged[0].rstrip('.')}" if options.damaged else ""
