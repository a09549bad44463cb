"""What a LeRobot dataset lists: its episodes, their tasks and lengths, and its data files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from robot_rl.data.formats.arrow import open_parquet, read_columns
from robot_rl.data.formats.contradictions import Contradictions
from robot_rl.data.formats.lerobot.info import LeRobotInfo
from robot_rl.errors import DataError


@dataclass(frozen=True)
class Listed:
    """One episode as the metadata lists it; None where it does not say."""

    index: int
    length: int | None
    raw: Mapping[str, Any]

    def number(self, key: str) -> float | None:
        """A number among what is listed."""
        value = self.raw.get(key)
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def data_files(info: LeRobotInfo) -> list[Path]:
    """Every parquet file under `data/`, in order of their names.

    Raises:
        DataError: If there is none.
    """
    files = sorted((info.root / "data").glob("**/*.parquet"))
    if not files:
        raise DataError(f"{info.root}: no parquet file under 'data/'. The dataset is incomplete; download it again.")
    return files


def readable(file: Path) -> Path:
    """A data file whose footer was read.

    Raises:
        DataError: If it is missing or is not parquet.
    """
    open_parquet(file).close()
    return file


def listed_episodes(info: LeRobotInfo, seen: Contradictions) -> dict[int, Listed]:
    """Episodes by index, from `meta/episodes.jsonl` (v2) or `meta/episodes/**.parquet` (v3).

    Raises:
        DataError: If the listing is missing, damaged or lists an episode twice.
    """
    rows = _rows_v3(info, seen) if info.major >= 3 else _rows_v2(info, seen)
    found: dict[int, Listed] = {}
    for row, where in rows:
        index: Any = row.get("episode_index")
        length: Any = row.get("length")
        if not _whole(index):
            raise DataError(f"{where}: episode_index is {index!r}; expected a whole number. Download it again.")
        if length is not None and not _whole(length):
            raise DataError(f"{where}: length of episode {index} is {length!r}; expected a count. Download it again.")
        if int(index) in found:
            seen.add(f"{where} lists episode {index} a second time")
            continue
        found[int(index)] = Listed(int(index), None if length is None else int(length), row)
    return found


def tasks(info: LeRobotInfo, notes: list[str]) -> dict[int, str]:
    """Task texts by task_index; empty where the dataset has none."""
    table = info.root / "meta" / "tasks.parquet"
    lines = info.root / "meta" / "tasks.jsonl"
    if info.major >= 3 and table.is_file():
        names = open_parquet(table).schema_arrow.names
        rows = read_columns(table, names).to_pylist()
    elif lines.is_file():
        rows = list(_json_lines(lines))
    else:
        notes.append("no file of task texts")
        return {}
    found: dict[int, str] = {}
    for row in rows:
        texts = [v for v in (row.get("task"), row.get("__index_level_0__"), *row.values()) if isinstance(v, str)]
        if _whole(row.get("task_index")) and texts:
            found[int(row["task_index"])] = texts[0]
    if rows and not found:
        raise DataError(f"{info.root}: the tasks file lists no pair of task_index and text; it has {list(rows[0])}.")
    return found


def _rows_v2(info: LeRobotInfo, seen: Contradictions) -> Iterator[tuple[dict[str, Any], str]]:
    file = info.root / "meta" / "episodes.jsonl"
    if not file.is_file():
        seen.add(f"it is {info.version} but has no meta/episodes.jsonl")
        return
    for number, row in enumerate(_json_lines(file), start=1):
        yield row, f"{file} line {number}"


def _rows_v3(info: LeRobotInfo, seen: Contradictions) -> Iterator[tuple[dict[str, Any], str]]:
    files = sorted((info.root / "meta" / "episodes").glob("**/*.parquet"))
    if not files:
        seen.add(f"it is {info.version} but has no parquet file under meta/episodes")
    for file in files:
        names = [n for n in open_parquet(file).schema_arrow.names if not n.startswith("stats/")]
        for row in read_columns(file, names).to_pylist():
            yield row, str(file)


def _json_lines(file: Path) -> Iterator[dict[str, Any]]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read ({error}). Download it again.") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{file} line {number} is not JSON ({error}). Download it again.") from error
        if not isinstance(row, dict):
            raise DataError(f"{file} line {number} holds {type(row).__name__}, not an object. Download it again.")
        yield cast("dict[str, Any]", row)


def _whole(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and float(value).is_integer()
