"""Which pictures belong to an episode, and where they are: references, not copies.

Learners here use vectors. Pictures stay in the log they came with; each episode says where, so that subsets
and repaired datasets keep their pictures. `frames.Frames` decodes them on demand.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from robot_rl.errors import DataError

if TYPE_CHECKING:
    from robot_rl.data.dataset import Dataset

Store = Literal["video", "parquet", "tfrecord", "hdf5"]


@dataclass(frozen=True, kw_only=True)
class CameraRef:
    """One camera's pictures of one episode.

    Args:
        name: The camera, such as "observation.images.wrist".
        shape: Height, width and channels in pixels as the log states them; 0 where it does not.
        fps: Pictures a second; 0 where the log does not tell.
        store: How they are kept.
        file: File that holds them.
        key: Column, feature or array in the file; empty for a video.
        start: Of the episode's first step: time in a video, s; row in parquet or HDF5; byte offset of a TFRecord.
        first_step: Picture of the first step; above 0 where the episode's beginning was cut off.
    """

    name: str
    shape: tuple[int, int, int]
    fps: float
    store: Store
    file: str
    key: str = ""
    start: float = 0.0
    first_step: int = 0

    @property
    def present(self) -> bool:
        """Whether the file is still there."""
        return Path(self.file).is_file()


@dataclass(frozen=True, kw_only=True)
class CameraSummary:
    """One camera over a dataset; `missing` counts episodes whose file is gone."""

    name: str
    shape: tuple[int, int, int]
    fps: float
    store: str
    folder: str
    episodes: int
    missing: int

    @property
    def line(self) -> str:
        """For people."""
        height, width, channels = self.shape
        rate = f" at {self.fps:g} fps" if self.fps else ""
        gone = f"; {self.missing} of {self.episodes} episodes' files are gone" if self.missing else ""
        return f"{height}x{width}x{channels}{rate}, {self.store} under {self.folder}, {self.episodes} episodes{gone}"

    def to_dict(self) -> dict[str, Any]:
        """JSON types."""
        return asdict(self)


def cameras_of(dataset: Dataset) -> list[CameraSummary]:
    """The cameras of a dataset, in order of first appearance; empty where it has none."""
    refs: dict[str, list[CameraRef]] = {}
    for group in dataset.camera_refs():
        for ref in group:
            refs.setdefault(ref.name, []).append(ref)
    present: dict[str, bool] = {}
    return [_summary(found, present) for found in refs.values()]


def refs_to_json(refs: Iterable[CameraRef]) -> str:
    """For an attribute of a stored episode."""
    return json.dumps([asdict(ref) for ref in refs])


def refs_from_json(text: str) -> tuple[CameraRef, ...]:
    """Inverse of `refs_to_json`.

    Raises:
        DataError: If it is something else.
    """
    try:
        rows = cast("list[dict[str, Any]]", json.loads(text))
        return tuple(CameraRef(**cast("Any", row | {"shape": tuple(row["shape"])})) for row in rows)
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"An episode's cameras cannot be read ({error!r}). Import the logs again.") from error


def _summary(refs: list[CameraRef], present: dict[str, bool]) -> CameraSummary:
    first = refs[0]
    for file in {ref.file for ref in refs} - set(present):
        present[file] = Path(file).is_file()
    return CameraSummary(
        name=first.name,
        shape=first.shape,
        fps=first.fps,
        store=first.store,
        folder=str(Path(first.file).parent),
        episodes=len(refs),
        missing=sum(not present[ref.file] for ref in refs),
    )
