"""LeRobot datasets: v2.0 and v2.1 (a parquet file an episode) and v3.0 (many episodes a file).

https://huggingface.co/docs/lerobot. Metadata of these datasets is often wrong (lengths of before an edit,
files of before a conversion), so the rows decide what an episode is, and every number that the metadata
states is held against them. An observation stands beside the action that followed it; the one after
the last action is not logged.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from robot_rl.data.episode import Episode
from robot_rl.data.formats.arrow import read_columns, scalars
from robot_rl.data.formats.contradictions import Contradictions
from robot_rl.data.formats.lerobot.cameras import Cameras, cameras
from robot_rl.data.formats.lerobot.columns import Columns, choose_columns, spec_of
from robot_rl.data.formats.lerobot.info import LeRobotInfo, read_info
from robot_rl.data.formats.lerobot.listing import data_files, listed_episodes, readable, tasks
from robot_rl.data.formats.lerobot.rows import Place, Rows, Stated, scan, sized_matrix
from robot_rl.data.formats.log import ImportedLog, ReadOptions, sound
from robot_rl.errors import DataError

_REWARD, _SUCCESS, _DONE = "next.reward", "next.success", "next.done"
_TERMINATED = "next.terminated"  # written by our exporter and by some simulators' recorders

_SPLIT = re.compile(r"\s*(\d{1,9})\s*:\s*(\d{1,9})\s*")


def read_lerobot(path: Path, options: ReadOptions) -> ImportedLog:
    """Open a LeRobot dataset folder.

    Raises:
        DataError: If something is missing or damaged, or the metadata contradicts the rows.
    """
    info = read_info(path)
    seen = Contradictions(path, options.trust_rows)
    notes: list[str] = [f"LeRobot {info.version}" + (f", robot {info.robot}" if info.robot else "")]
    files = list(sound(data_files(info), readable, options))
    if not files:
        raise DataError(f"{path}: no data file can be read. {(options.damaged or [''])[0]}")
    columns = choose_columns(info, files[0], options, seen, notes)
    listed = listed_episodes(info, seen)
    rows = scan(Stated(info, columns, listed, seen), files, options)
    bounds, why = rows.range.bounds()
    spec = spec_of(info, columns, bounds, notes)
    if info.spec is None:
        notes.append(why)
    if seen.found and rows.periods:
        spec = replace(spec, rate_hz=round(1 / max(float(np.median(rows.periods)), 1e-9), 3))
    notes += _task_notes(info, rows, seen)
    chosen = _split(info, rows, options)
    splits = {} if options.filter else _splits(info, chosen, notes)
    pictures = cameras(info, chosen, listed, notes)
    notes += [*_row_notes(columns, info, rows), *seen.notes]
    return ImportedLog(
        format="lerobot",
        spec=spec,
        count=len(chosen),
        episodes=_episodes(info, columns, chosen, pictures, options),
        notes=tuple(notes),
        splits=splits,
    )


def _task_notes(info: LeRobotInfo, rows: Rows, seen: Contradictions) -> list[str]:
    notes: list[str] = []
    texts = tasks(info, notes)
    unknown = sorted(set(rows.tasks) - set(texts))
    if texts and unknown:
        seen.add(f"rows name task {unknown[0]}, the tasks file lists {', '.join(map(str, sorted(texts)[:8]))}")
    named = [texts[t] for t in sorted(rows.tasks) if t in texts]
    if len(named) == 1:
        notes.append(f"task: {named[0]}")
    elif named:
        shown = "; ".join(named[:4]) + (f" and {len(named) - 4} more" if len(named) > 4 else "")
        notes.append(f"{len(named)} tasks, which the observation does not tell apart: {shown}")
    return notes


def _row_notes(columns: Columns, info: LeRobotInfo, rows: Rows) -> list[str]:
    notes = [
        f"the observation after the last action is not logged in {len(rows.places)} episodes: that transition is "
        f"left out of value learning unless it terminates"
    ]
    if _REWARD not in info.features:
        notes.append("no 'next.reward': rewards are stored as 0")
    if _DONE in info.features and _TERMINATED not in info.features:
        notes.append("next.done ends an episode for good only together with next.success; else it is a truncation")
    if rows.gaps:
        notes.append(f"{rows.gaps} gaps of more than 1.5 periods between rows; see `data doctor`")
    if not rows.periods and info.spec is None:
        notes.append(f"no timestamps: the rate is info.json's {info.fps:g} Hz")
    return notes


def _split(info: LeRobotInfo, rows: Rows, options: ReadOptions) -> dict[int, Place]:
    """Episodes in order of their index, those of the split named by `--filter`."""
    ordered = {index: rows.places[index] for index in sorted(rows.places)}
    if not options.filter:
        return ordered
    bounds = _bounds(info.splits.get(options.filter, ""))
    if bounds is None:
        raise DataError(
            f"{info.root}: no split '{options.filter}' in info.json; there are: "
            f"{', '.join(f'{k} ({v})' for k, v in info.splits.items()) or 'none'}."
        )
    begin, end = bounds
    chosen = {i: p for i, p in ordered.items() if begin <= i < end}
    if not chosen or end > max(ordered) + 1:
        raise DataError(
            f"{info.root}: split '{options.filter}' is {begin}:{end}, the episodes go from {min(ordered)} to "
            f"{max(ordered)}. Leave --filter out."
        )
    return chosen


def _splits(info: LeRobotInfo, places: dict[int, Place], notes: list[str]) -> dict[str, tuple[int, ...]]:
    """Split name to places among all episodes; an index that no episode has gets the place behind the last."""
    order = {index: i for i, index in enumerate(places)}
    found: dict[str, tuple[int, ...]] = {}
    for name, text in info.splits.items():
        bounds = _bounds(text)
        if bounds is None:
            notes.append(f"split '{name}' of info.json is '{text}', not BEGIN:END: it is left out")
            continue
        begin, end = bounds
        inside = tuple(order[index] for index in order if begin <= index < end)
        lost = max(0, end - begin) > len(inside)
        found[name] = inside + (len(order),) * lost
    return found


def _bounds(text: str) -> tuple[int, int] | None:
    """First episode of a split and the one behind its last, as info.json has them; None for anything else."""
    found = _SPLIT.fullmatch(text)
    return None if found is None else (int(found[1]), int(found[2]))


def _episodes(
    info: LeRobotInfo, columns: Columns, places: dict[int, Place], pictures: Cameras, options: ReadOptions
) -> Iterator[Episode]:
    wanted = [*columns.obs_keys, *columns.action_keys, "timestamp", _REWARD, _SUCCESS, _DONE, _TERMINATED]
    opened = lru_cache(1)(partial(read_columns, columns=wanted))  # episodes of a file stand together

    def read(index: int) -> Episode:
        place = places[index]
        table = opened(place.file).slice(place.start, place.rows)
        return replace(_episode(info, columns, table, place.file, index), cameras=pictures[index])

    yield from sound(places, read, options)


def _episode(info: LeRobotInfo, columns: Columns, table: Any, file: Path, index: int) -> Episode:
    where = f"{file} (episode {index})"
    obs = np.hstack([sized_matrix(table, f.key, width, where) for f, width in columns.observation])
    actions = np.hstack([sized_matrix(table, f.key, width, where) for f, width in columns.action])

    def column(name: str) -> Any:
        return scalars(table, name, where) if name in table.column_names else None

    rewards, success, done, ended = column(_REWARD), column(_SUCCESS), column(_DONE), column(_TERMINATED)
    reached = None if success is None else bool((success > 0).any())
    terminated = bool(ended[-1] > 0) if ended is not None else bool(done is not None and done[-1] > 0 and reached)
    times = column("timestamp")
    return Episode(
        observations=np.vstack([obs, obs[-1:]]).astype(np.float32),
        actions=actions.astype(np.float32),
        rewards=np.zeros(len(actions), np.float32) if rewards is None else rewards.astype(np.float32),
        terminated=terminated,
        truncated=not terminated,
        success=reached,
        final_observed=terminated,  # what follows a terminal row is never used
        timestamps=None if times is None else np.append(times, times[-1] + 1 / info.fps),
        source=f"{info.root.name}:episode {index}",
    )
