"""Where each episode's rows stand in a LeRobot dataset's files, and whether they agree with what it lists."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from robot_rl.data.formats.arrow import integers, matrix, open_parquet, read_columns, scalars
from robot_rl.data.formats.bounds import LoggedRange
from robot_rl.data.formats.contradictions import Contradictions
from robot_rl.data.formats.lerobot.columns import Columns
from robot_rl.data.formats.lerobot.info import LeRobotInfo, filled
from robot_rl.data.formats.lerobot.listing import Listed
from robot_rl.errors import DataError

RATE_TOLERANCE = 0.05  # share by which the rows' median rate may differ from info.json's fps
GAP_PERIODS = 1.5


@dataclass(frozen=True)
class Place:
    """Rows `start` to `start + rows - 1` of `file`."""

    file: Path
    start: int
    rows: int


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


def scan(
    info: LeRobotInfo, files: list[Path], columns: Columns, listed: dict[int, Listed], seen: Contradictions
) -> Rows:
    """Read every file's indices, times and actions, and hold them against the listing and info.json.

    Raises:
        DataError: If a file is damaged or misses a column, or a contradiction is not to be trusted over.
    """
    found = Rows()
    needed = {*columns.obs_keys, *columns.action_keys}
    for file in files:
        _require_schema(file, needed, files[0])
        table = read_columns(
            file, ["episode_index", "frame_index", "index", "timestamp", "task_index", *columns.action_keys]
        )
        if len(table):
            _take_file(info, file, table, found, seen, columns=columns, listed=listed)
    if not found.places:
        raise DataError(f"{info.root} holds no episodes: its data files have no rows.")
    _hold_against_totals(info, found, listed, seen)
    return found


def _require_schema(file: Path, needed: set[str], first: Path) -> None:
    names = open_parquet(file).schema_arrow.names
    missing = sorted(needed - set(names))
    if missing:
        raise DataError(
            f"{file} has no column {', '.join(missing)}, which {first.name} has; its columns are {', '.join(names)}. "
            f"Two schemas in one dataset: export them apart, or choose columns that all have with --obs-keys."
        )


def _take_file(
    info: LeRobotInfo,
    file: Path,
    table: Any,
    found: Rows,
    seen: Contradictions,
    *,
    columns: Columns,
    listed: dict[int, Listed],
) -> None:
    where, names = str(file), table.column_names
    actions = np.hstack([sized_matrix(table, f.key, width, file) for f, width in columns.action])
    found.range.add(actions)
    if "episode_index" in names:
        owner = integers(table, "episode_index", where)
    elif info.major == 2 and (digits := file.stem.rpartition("_")[2]).isdigit():
        owner = np.full(len(table), int(digits))
    else:
        raise DataError(f"{file} has no column episode_index, so its episodes can't be told apart. Export it again.")
    if "task_index" in names:
        for task, count in zip(*np.unique(integers(table, "task_index", where), return_counts=True), strict=True):
            found.tasks[int(task)] = found.tasks.get(int(task), 0) + int(count)
    cuts = np.concatenate([[0], np.flatnonzero(np.diff(owner)) + 1, [len(owner)]])
    frames = integers(table, "frame_index", where) if "frame_index" in names else None
    index = integers(table, "index", where) if "index" in names else None
    times = scalars(table, "timestamp", where) if "timestamp" in names else None
    for start, stop in zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True):
        episode = int(owner[start])
        if episode in found.places:
            raise DataError(
                f"{file}: the rows of episode {episode} stand in two places (also in {found.places[episode].file}). "
                f"They were mixed when datasets were joined; export it again."
            )
        found.places[episode] = Place(file, start, stop - start)
        if frames is not None and (frames[start:stop] != np.arange(stop - start)).any():
            row = int(np.flatnonzero(frames[start:stop] != np.arange(stop - start))[0])
            seen.add(f"frame_index of episode {episode} is {frames[start + row]} in its row {row}")
        if times is not None:
            _take_times(times[start:stop], episode, found, seen)
        if (entry := listed.get(episode)) is not None:
            first = None if index is None else int(index[start])
            _hold_against_listing(info, file, entry, seen, rows=stop - start, first=first)


def _take_times(times: Any, episode: int, found: Rows, seen: Contradictions) -> None:
    steps = np.diff(times)
    if not len(steps):
        return
    if (steps <= 0).any():
        row = int(np.flatnonzero(steps <= 0)[0])
        seen.add(
            f"timestamps of episode {episode} stand still or run back {int((steps <= 0).sum())} times, first from "
            f"{times[row]:.4f} s in row {row} to {times[row + 1]:.4f} s"
        )
    period = float(np.median(steps))
    found.periods.append(period)
    found.gaps += int((steps > GAP_PERIODS * period).sum())


def _hold_against_listing(
    info: LeRobotInfo, file: Path, entry: Listed, seen: Contradictions, *, rows: int, first: int | None
) -> None:
    """One episode's rows against its line of the listing."""
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


def _hold_against_totals(info: LeRobotInfo, found: Rows, listed: dict[int, Listed], seen: Contradictions) -> None:
    for what, stated, actual in (
        ("total_episodes", info.total_episodes, len(found.places)),
        ("total_frames", info.total_frames, found.total),
    ):
        if stated is not None and stated != actual:
            seen.add(f"info.json says {what} {stated}, the data files hold {actual}")
    lost, extra = sorted(set(listed) - set(found.places)), sorted(set(found.places) - set(listed))
    if listed and lost:
        seen.add(f"{len(lost)} listed episodes have no rows, the first is episode {lost[0]}")
    if listed and extra:
        seen.add(f"{len(extra)} episodes have rows but are not listed, the first is episode {extra[0]}")
    if found.periods:
        rate = 1 / period if (period := float(np.median(found.periods))) > 0 else 0.0
        if abs(rate / info.fps - 1) > RATE_TOLERANCE:
            seen.add(f"info.json says fps {info.fps:g}, the timestamps come at {rate:.2f} Hz")


def sized_matrix(table: Any, key: str, width: int, file: Path) -> Any:
    """`arrow.matrix`, refused where its width is not the first file's."""
    values = matrix(table, key, str(file))
    if values.shape[1] != width:
        raise DataError(
            f"{file}: '{key}' has {values.shape[1]} numbers a row, {width} in the first file. Two schemas in one "
            f"dataset: export them apart."
        )
    return values
