"""LeRobot's `meta/info.json`: what a dataset says about itself.

Names of the elements come as a list, a nested list, a dict of lists or a dict from name to index, in every
mixture that people's recorders write; where they don't fit the shape, elements are numbered and a note says so.
"""

from __future__ import annotations

import json
import math
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from robot_rl.errors import DataError

_NUMERIC = ("float", "int", "uint", "bool")
_TEMPLATE_FIELDS = {"episode_chunk", "episode_index", "chunk_index", "file_index", "video_key", "chunk_key", "file_key"}


@dataclass(frozen=True)
class Feature:
    """One column or video: `dtype` as written ("float32", "video", "image", ...), shape of one step."""

    key: str
    dtype: str
    shape: tuple[int, ...]
    names: Any = None
    info: Mapping[str, Any] | None = None

    @property
    def numeric(self) -> bool:
        """Whether it is numbers in a column."""
        return self.dtype.startswith(_NUMERIC)

    @property
    def camera(self) -> bool:
        """Whether it is pictures."""
        return self.dtype in ("video", "image")


@dataclass(frozen=True, kw_only=True)
class LeRobotInfo:
    """`meta/info.json`, checked. Totals are None where the file has none.

    Args:
        root: Folder that holds `meta` and `data`.
        version: Such as "v2.1".
        fps: Control rate, Hz.
        features: By key, in the file's order.
        spec: What our own exporter adds: the dataset's spec, as a dictionary.
    """

    root: Path
    version: str
    fps: float
    robot: str
    total_episodes: int | None
    total_frames: int | None
    total_videos: int | None
    chunks_size: int
    splits: Mapping[str, str]
    data_path: str
    video_path: str
    features: Mapping[str, Feature]
    spec: Mapping[str, Any] | None = None

    @property
    def major(self) -> int:
        """2 for one episode a file, 3 for many."""
        return int(self.version.removeprefix("v").split(".")[0])


def read_info(root: Path) -> LeRobotInfo:
    """Read and check `meta/info.json`.

    Raises:
        DataError: If it is missing, damaged, of a version that isn't known, or lacks what is needed.
    """
    file = root / "meta" / "info.json"
    raw = read_json(file)
    version = str(raw.get("codebase_version", ""))
    if not version:
        version = "v3.0" if (root / "meta" / "episodes").is_dir() else "v2.1"
    major = version.removeprefix("v").split(".")[0]
    if major not in ("2", "3"):
        raise DataError(
            f"{file}: codebase_version is '{version}'; v2.0, v2.1 and v3.0 are read. Convert it with LeRobot's own "
            f"scripts first."
        )
    fps = raw.get("fps")
    if not isinstance(fps, int | float) or isinstance(fps, bool) or not math.isfinite(fps) or fps <= 0:
        raise DataError(f"{file}: fps is {fps!r}; expected a rate above 0, Hz. Correct the file.")
    many = major == "3"
    ours = raw.get("robot_rl")
    return LeRobotInfo(
        root=root,
        version=version,
        fps=float(fps),
        robot=str(raw.get("robot_type") or ""),
        total_episodes=_count(raw, "total_episodes", file),
        total_frames=_count(raw, "total_frames", file),
        total_videos=_count(raw, "total_videos", file),
        chunks_size=_count(raw, "chunks_size", file) or 1000,
        splits=_texts(raw.get("splits")),
        data_path=_template(
            raw.get("data_path"),
            "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
            if many
            else "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
            file,
        ),
        video_path=_template(
            raw.get("video_path"),
            "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
            if many
            else "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
            file,
        ),
        features=_features(raw.get("features"), file),
        spec=cast("Mapping[str, Any]", ours["spec"]) if isinstance(ours, dict) and "spec" in ours else None,
    )


def element_names(feature: Feature, size: int) -> tuple[tuple[str, ...], bool]:
    """One name an element, and whether they are the file's own."""
    found = [str(n) for n in _flat(feature.names)]
    if len(found) != size or (size > 1 and len(set(found)) != size):
        return tuple(str(i) for i in range(size)), False
    return tuple(found), True


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        DataError: If it is missing or is something else.
    """
    if not file.is_file():
        raise DataError(f"{file} does not exist. The dataset is incomplete; copy or download it again.")
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{file} cannot be read as JSON ({error}). Copy or download it again.") from error
    if not isinstance(raw, dict):
        raise DataError(f"{file} holds {type(raw).__name__}, not an object. Copy or download it again.")
    return cast("dict[str, Any]", raw)


def _count(raw: Mapping[str, Any], key: str, file: Path) -> int | None:
    value = raw.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0 or value != int(value):
        raise DataError(f"{file}: {key} is {value!r}; expected a count. Correct the file.")
    return int(value)


def _texts(raw: Any) -> dict[str, str]:
    return {str(k): str(v) for k, v in cast("dict[Any, Any]", raw).items()} if isinstance(raw, dict) else {}


def _template(raw: Any, default: str, file: Path) -> str:
    """A path template whose fields are LeRobot's and that stays inside the dataset."""
    if not raw:
        return default
    text = str(raw)
    try:
        fields = {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}
    except ValueError as error:
        raise DataError(f"{file}: '{text}' is no path template ({error}). Correct the file.") from error
    if not fields <= _TEMPLATE_FIELDS or ".." in Path(text).parts or Path(text).is_absolute():
        raise DataError(
            f"{file}: path template '{text}' may use {', '.join(sorted(_TEMPLATE_FIELDS))} and must stay inside "
            f"the dataset. Correct the file."
        )
    return text


def filled(template: str, root: Path, **values: Any) -> Path:
    """The path that a template gives.

    Raises:
        DataError: If the template can't be filled with these values.
    """
    try:
        path = template.format(**values)
    except (KeyError, ValueError, IndexError) as error:
        raise DataError(
            f"{root}: path template '{template}' cannot be filled ({error!r}). Correct info.json."
        ) from error
    if ".." in Path(path).parts:
        raise DataError(f"{root}: path '{path}' leads out of the dataset. Correct info.json.")
    return root / path


def _features(raw: Any, file: Path) -> dict[str, Feature]:
    if not isinstance(raw, dict) or not raw:
        raise DataError(f"{file}: 'features' is {type(raw).__name__}; expected an object that names the columns.")
    found: dict[str, Feature] = {}
    for key, value in cast("dict[str, Any]", raw).items():
        if not isinstance(value, dict):
            raise DataError(f"{file}: feature '{key}' is {value!r}; expected an object with dtype and shape.")
        entry = cast("dict[str, Any]", value)
        shape = entry.get("shape", (1,))
        shape = (shape,) if isinstance(shape, int) else shape
        if not isinstance(shape, list | tuple) or not all(isinstance(n, int) for n in cast("list[Any]", shape)):
            raise DataError(f"{file}: feature '{key}' has shape {shape!r}; expected a list of whole numbers.")
        info = entry.get("info") or entry.get("video_info")
        found[str(key)] = Feature(
            key=str(key),
            dtype=str(entry.get("dtype", "")),
            shape=tuple(cast("list[int]", shape)),
            names=entry.get("names"),
            info=cast("dict[str, Any]", info) if isinstance(info, dict) else None,
        )
    return found


def _flat(names: Any) -> Sequence[Any]:
    if names is None:
        return []
    if isinstance(names, str | int | float):
        return [names]
    if isinstance(names, Mapping):
        mapping = cast("Mapping[Any, Any]", names)
        if mapping and all(isinstance(v, int) for v in mapping.values()):  # name -> index
            return sorted(mapping, key=lambda k: mapping[k])
        return [n for part in mapping.values() for n in _flat(part)]
    return [n for part in cast("Sequence[Any]", names) for n in _flat(part)]
