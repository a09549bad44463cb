"""Which TFRecord files an RLDS dataset consists of, and how many episodes they should hold."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from robot_rl.data.formats.contradictions import Contradictions
from robot_rl.data.formats.lerobot.info import read_json
from robot_rl.errors import DataError

_SHARD = re.compile(r"(?P<name>.+)-(?P<split>[^-.]+)\.(?P<kind>[\w.]+)-(?P<shard>\d{5})-of-(?P<count>\d{5})")


@dataclass(frozen=True)
class Shard:
    """One file; `stated` is the number of episodes dataset_info.json gives it, None where it does not say."""

    path: Path
    split: str
    stated: int | None


def is_rlds(folder: Path) -> bool:
    """Whether a folder looks like an RLDS dataset."""
    named = any((folder / name).is_file() for name in ("features.json", "dataset_info.json"))
    return named or any(True for _ in folder.glob("*.tfrecord*"))


def find_shards(path: Path, split: str, seen: Contradictions) -> list[Shard]:
    """The files at `path`, a folder or one file, of one split or of all.

    Raises:
        DataError: If there are none, they are of another format, or the split is unknown.
    """
    if path.is_file():
        named = _SHARD.fullmatch(path.name)
        if split and (named is None or named["split"] != split):
            own = f"of the split '{named['split']}'" if named else "of no split that its name tells"
            raise DataError(f"{path} is {own}, not of '{split}'. Give the folder, or leave --filter out.")
        return [Shard(path, "", None)]
    info = read_json(path / "dataset_info.json") if (path / "dataset_info.json").is_file() else {}
    kind = str(info.get("fileFormat") or "tfrecord").lower()
    if kind != "tfrecord":
        raise DataError(
            f"{path}: its files are '{kind}'; only 'tfrecord' is read. Convert it with TensorFlow Datasets."
        )
    files = sorted(f for f in path.iterdir() if f.is_file() and ".tfrecord" in f.name)
    if not files:
        there = ", ".join(sorted(f.name for f in path.iterdir())[:8])
        raise DataError(f"{path}: no TFRecord file; there are {there}. It is incomplete or no RLDS; download it again.")
    groups: dict[str, dict[int, tuple[Path, int]]] = {}
    for number, file in enumerate(files):
        match = _SHARD.fullmatch(file.name)
        name, shard, count = (match["split"], int(match["shard"]), int(match["count"])) if match else ("", number, 0)
        groups.setdefault(name, {})[shard] = file, count
    if split and split not in groups:
        raise DataError(f"{path}: no split '{split}'; there are: {', '.join(groups)}.")
    lengths = _shard_lengths(info)
    for name in lengths:
        if name not in groups:
            seen.add(f"dataset_info.json lists the split '{name}', which has no file")
    found: list[Shard] = []
    for name, shards in groups.items():
        if split in ("", name):
            found += _group(name, shards, lengths.get(name), seen)
    return found


def _group(
    name: str, shards: dict[int, tuple[Path, int]], stated: list[int] | None, seen: Contradictions
) -> list[Shard]:
    expected = max([count for _, count in shards.values()] + [len(stated or [])])
    lost = sorted(set(range(expected)) - set(shards))
    if lost and expected:
        seen.add(f"split '{name}' has {len(shards)} of {expected} files, the first one missing is number {lost[0]}")
    if stated is not None and len(stated) != expected:
        seen.add(f"dataset_info.json lists {len(stated)} files for split '{name}', the names say {expected}")
        stated = None
    return [
        Shard(file, name, stated[shard] if stated is not None and shard < len(stated) else None)
        for shard, (file, _) in sorted(shards.items())
    ]


def _shard_lengths(info: dict[str, Any]) -> dict[str, list[int]]:
    splits = info.get("splits")
    if not isinstance(splits, list):
        return {}
    found: dict[str, list[int]] = {}
    for split in cast("list[Any]", splits):
        if isinstance(split, dict) and isinstance(split.get("shardLengths"), list):
            lengths = [str(n) for n in cast("list[Any]", split["shardLengths"])]
            if all(n.isdigit() for n in lengths):
                found[str(split.get("name", ""))] = [int(n) for n in lengths]
    return found
