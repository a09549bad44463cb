"""A dataset as LeRobot v3.0: many episodes a parquet file, metadata in parquet and JSON beside them.

https://huggingface.co/docs/lerobot. `observation.state` holds the whole observation, one name an element. What
the format has no place for travels where readers that don't know it pass over it: the spec under `robot_rl` in
info.json, the true end of an episode in the column `next.terminated`.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_rl.data.dataset import Dataset
from robot_rl.data.episode import Episode
from robot_rl.data.exporters.left_out import left_out
from robot_rl.data.exporters.whole import whole
from robot_rl.data.formats.arrow import pyarrow_parquet
from robot_rl.errors import DataError
from robot_rl.spec import Spec

FILE_MB = 100  # LeRobot's default size of a data file
CHUNK_FILES = 1000
QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}


@dataclass
class _Progress:
    """What has been written so far."""

    file: int = -1
    bytes_in_file: int = 0
    frames: int = 0
    rows: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])


def export_lerobot(dataset: Dataset, out: Path, task: str, fps: float) -> list[str]:
    """Write the folder `out`; returns what a user should know.

    Args:
        dataset: What to write.
        out: Folder to create.
        task: Text of the task, the same for all episodes.
        fps: Rate where the dataset does not know its own, Hz; 0 for none.

    Raises:
        DataError: If `out` exists, the rate is unknown or none, or pyarrow is missing.
    """
    if fps and not 0 < fps < math.inf:
        raise DataError(f"--fps is {fps:g} Hz; it must be above 0, and finite.")
    rate = dataset.spec.rate_hz or fps
    if rate <= 0:
        raise DataError(f"{dataset.path} does not know its rate, which LeRobot needs. Give it with --fps.")
    success = all(e.success is not None for e in dataset)
    with whole(out) as work:
        (work / "meta").mkdir(parents=True)
        done, stats = _write_data(dataset, work, rate, task, success=success)
        _write_meta(dataset, work, rate, done, stats, task=task, success=success)
    notes = ["LeRobot stores no observation after the last action: the one of each episode is not written"]
    if not success:
        notes.append("success is not known of every episode: the column next.success is left out")
    if any(_off_the_grid(e, rate) for e in dataset):
        notes.append(f"times are written as multiples of 1 / {rate:g} s; those measured, with their gaps, are lost")
    return notes + left_out(dataset)


def _off_the_grid(episode: Episode, rate: float) -> bool:
    """Whether a measured time lies a tenth of a period or more beside the one that is written."""
    times = episode.timestamps
    return times is not None and bool((np.abs(times - times[0] - np.arange(len(times)) / rate) >= 0.1 / rate).any())


def _write_data(
    dataset: Dataset, work: Path, rate: float, task: str, *, success: bool
) -> tuple[_Progress, dict[str, _Stats]]:
    import pyarrow as pa  # noqa: PLC0415

    parquet = pyarrow_parquet()
    schema = _schema(dataset.spec, success=success)
    done, total, writer = _Progress(), dict[str, _Stats](), None
    try:
        for index, episode in enumerate(dataset):
            columns = _columns(episode, index, done.frames, rate, success=success)
            table = pa.table({k: _arrow(v, schema.field(k).type) for k, v in columns.items()}, schema=schema)
            if writer is None or done.bytes_in_file + table.nbytes > FILE_MB * 2**20:
                if writer is not None:
                    writer.close()
                done.file, done.bytes_in_file = done.file + 1, 0
                file = work / _place("data", done.file)
                file.parent.mkdir(parents=True, exist_ok=True)
                writer = parquet.ParquetWriter(file, schema, compression="snappy")
            writer.write_table(table)
            done.bytes_in_file += table.nbytes
            stats = {k: _Stats.of(v) for k, v in columns.items()}
            for key, one in stats.items():
                total[key] = one if key not in total else total[key].joined(one)
            done.rows.append(_listing(index, len(episode), task, done, stats))
            done.frames += len(episode)
    finally:
        if writer is not None:
            writer.close()
    return done, total


def _columns(episode: Episode, index: int, first: int, rate: float, *, success: bool) -> dict[str, NDArray[Any]]:
    steps = len(episode)
    frame = np.arange(steps)
    last = frame == steps - 1
    columns: dict[str, NDArray[Any]] = {
        "observation.state": episode.observations[:-1],
        "action": episode.actions,
        "next.reward": episode.rewards,
        "next.done": last,
        "next.terminated": last & episode.terminated,
        "timestamp": (frame / rate).astype(np.float32),
        "frame_index": frame,
        "episode_index": np.full(steps, index),
        "index": first + frame,
        "task_index": np.zeros(steps, np.int64),
    }
    return columns | ({"next.success": last & bool(episode.success)} if success else {})


def _schema(spec: Spec, *, success: bool) -> Any:
    import pyarrow as pa  # noqa: PLC0415

    flags = ["next.done", "next.terminated", *(["next.success"] if success else [])]
    return pa.schema(
        [
            pa.field("observation.state", pa.list_(pa.float32(), spec.obs_dim)),
            pa.field("action", pa.list_(pa.float32(), spec.action_dim)),
            pa.field("next.reward", pa.float32()),
            *(pa.field(name, pa.bool_()) for name in flags),
            pa.field("timestamp", pa.float32()),
            *(pa.field(name, pa.int64()) for name in ("frame_index", "episode_index", "index", "task_index")),
        ]
    )


def _arrow(values: NDArray[Any], kind: Any) -> Any:
    import pyarrow as pa  # noqa: PLC0415

    if values.ndim == 2:
        return pa.FixedSizeListArray.from_arrays(pa.array(np.ravel(values), pa.float32()), values.shape[1])
    return pa.array(values, kind)


def _listing(index: int, length: int, task: str, done: _Progress, stats: dict[str, _Stats]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "episode_index": index,
        "tasks": [task],
        "length": length,
        "data/chunk_index": done.file // CHUNK_FILES,
        "data/file_index": done.file % CHUNK_FILES,
        "dataset_from_index": done.frames,
        "dataset_to_index": done.frames + length,
        "meta/episodes/chunk_index": 0,
        "meta/episodes/file_index": 0,
    }
    return row | {f"stats/{k}/{name}": value for k, one in stats.items() for name, value in one.to_dict().items()}


def _write_meta(
    dataset: Dataset,
    work: Path,
    rate: float,
    done: _Progress,
    stats: dict[str, _Stats],
    *,
    task: str,
    success: bool,
) -> None:
    import pyarrow as pa  # noqa: PLC0415

    parquet = pyarrow_parquet()
    listing = work / _place("meta/episodes", 0)
    listing.parent.mkdir(parents=True)
    parquet.write_table(pa.Table.from_pylist(done.rows), listing)
    tasks = pa.table({"task_index": pa.array([0], pa.int64()), "task": [task]})
    parquet.write_table(
        tasks.replace_schema_metadata({"pandas": json.dumps(_TASKS_INDEX)}), work / "meta/tasks.parquet"
    )
    info = _info(dataset, rate, done.frames, success=success)
    (work / "meta/info.json").write_text(json.dumps(info, indent=4))
    (work / "meta/stats.json").write_text(json.dumps({k: s.to_dict() for k, s in stats.items()}, indent=4))


def _info(dataset: Dataset, rate: float, frames: int, *, success: bool) -> dict[str, Any]:
    spec = dataset.spec
    features: dict[str, Any] = {
        "observation.state": _feature("float32", spec.obs_dim, spec.obs_names),
        "action": _feature("float32", spec.action_dim, spec.action_names),
        "next.reward": _feature("float32"),
        "next.done": _feature("bool"),
        "next.terminated": _feature("bool"),
        **({"next.success": _feature("bool")} if success else {}),
        "timestamp": _feature("float32"),
        **{name: _feature("int64") for name in ("frame_index", "episode_index", "index", "task_index")},
    }
    return {
        "codebase_version": "v3.0",
        "robot_type": spec.env_id or "unknown",
        "total_episodes": len(dataset),
        "total_frames": frames,
        "total_tasks": 1,
        "chunks_size": CHUNK_FILES,
        "data_files_size_in_mb": FILE_MB,
        "video_files_size_in_mb": 200,
        "fps": int(rate) if rate == int(rate) else rate,
        "splits": {"train": f"0:{len(dataset)}"},
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": None,
        "features": features,
        "robot_rl": {"spec": spec.to_dict(), "origin": dataset.origin},
    }


def _feature(dtype: str, size: int = 1, names: list[str] | None = None) -> dict[str, Any]:
    # LeRobot refuses feature keys with a slash, and its tools split names at none: labels keep theirs
    return {"dtype": dtype, "shape": [size], "names": names}


def _place(kind: str, number: int) -> str:
    return f"{kind}/chunk-{number // CHUNK_FILES:03d}/file-{number % CHUNK_FILES:03d}.parquet"


@dataclass(frozen=True)
class _Stats:
    """LeRobot's statistics of a feature over rows; quantiles join as count-weighted means, as LeRobot's do."""

    min: NDArray[np.float64]
    max: NDArray[np.float64]
    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    count: int
    quantiles: dict[str, NDArray[np.float64]]

    @staticmethod
    def of(values: NDArray[Any]) -> _Stats:
        rows = values.astype(np.float64).reshape(len(values), -1)
        quantiles = {name: np.quantile(rows, q, axis=0) for name, q in QUANTILES.items()}
        return _Stats(rows.min(0), rows.max(0), rows.mean(0), rows.std(0), len(rows), quantiles)

    def joined(self, other: _Stats) -> _Stats:
        count = self.count + other.count
        mine, theirs = self.count / count, other.count / count
        mean = mine * self.mean + theirs * other.mean
        square = mine * (self.std**2 + (self.mean - mean) ** 2) + theirs * (other.std**2 + (other.mean - mean) ** 2)
        quantiles = {k: mine * v + theirs * other.quantiles[k] for k, v in self.quantiles.items()}
        low, high = np.minimum(self.min, other.min), np.maximum(self.max, other.max)
        return _Stats(low, high, mean, np.sqrt(square), count, quantiles)

    def to_dict(self) -> dict[str, list[Any]]:
        found = {"min": self.min, "max": self.max, "mean": self.mean, "std": self.std, **self.quantiles}
        return {**{k: v.tolist() for k, v in found.items()}, "count": [self.count]}


# pandas keeps in the schema's metadata which column is the index; LeRobot looks tasks up by it
_TASKS_INDEX = {
    "index_columns": ["task"],
    "column_indexes": [
        {"name": None, "field_name": None, "pandas_type": "unicode", "numpy_type": "object", "metadata": None}
    ],
    "columns": [
        {
            "name": "task_index",
            "field_name": "task_index",
            "pandas_type": "int64",
            "numpy_type": "int64",
            "metadata": None,
        },
        {"name": "task", "field_name": "task", "pandas_type": "unicode", "numpy_type": "object", "metadata": None},
    ],
    "creator": {"library": "pyarrow", "version": "17.0.0"},
    "pandas_version": "2.2.0",
}
