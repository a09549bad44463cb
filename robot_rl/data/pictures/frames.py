"""Pictures by (camera, step), decoded when asked for, with a small cache of the last ones.

Videos by PyAV; JPEG and PNG bytes inside parquet, TFRecord and HDF5 by imageio.
"""

from __future__ import annotations

import io
from collections import OrderedDict
from pathlib import Path
from typing import Any, Protocol

import h5py
import imageio.v3 as iio
import numpy as np
from numpy.typing import NDArray

from robot_rl.data.pictures.cameras import CameraRef
from robot_rl.errors import DataError

Frame = NDArray[Any]  # (H, W, C), uint8; depth pictures keep their type


class FrameSource(Protocol):
    """Pictures of one file."""

    def frame(self, ref: CameraRef, step: int, time: float | None) -> Frame:
        """The picture of control step `step`, which was at `time`, s (None: at an even rate).

        Raises:
            DataError: If there is none, or it is damaged.
        """
        ...

    def close(self) -> None:
        """Let go of the file."""
        ...


class Frames:
    """Reads pictures of any store.

    Args:
        cached: Decoded pictures kept.
        open_files: Files kept open.
    """

    def __init__(self, cached: int = 64, open_files: int = 4) -> None:
        self._cache: OrderedDict[tuple[str, str, float, int, float | None], Frame] = OrderedDict()
        self._sources: OrderedDict[tuple[str, str], FrameSource] = OrderedDict()
        self._cached, self._open_files = cached, open_files

    def frame(self, ref: CameraRef, step: int, times: NDArray[np.float64] | None = None) -> Frame:
        """The picture of control step `step`, (H, W, C).

        Args:
            ref: Camera of an episode.
            step: Counted from 0.
            times: The episode's `timestamps`: a video's picture is the one of the step's time, without them the one
                at an even rate. Pictures that stand beside their rows need none.

        Raises:
            DataError: If the file is gone, damaged, or has no picture of that step.
        """
        if step < 0:
            raise DataError(f"Step {step} of camera '{ref.name}': steps count from 0.")
        if times is not None and step >= len(times):
            raise DataError(f"Step {step} of camera '{ref.name}': the episode's times end with step {len(times) - 1}.")
        time = None if times is None else float(times[step])
        key = (ref.file, ref.key, ref.start, ref.first_step + step, time)
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        frame = self._source(ref).frame(ref, ref.first_step + step, time)
        frame.setflags(write=False)
        self._cache[key] = frame
        while len(self._cache) > self._cached:
            self._cache.popitem(last=False)
        return frame

    def close(self) -> None:
        """Let go of all files."""
        while self._sources:
            self._sources.popitem()[1].close()

    def __enter__(self) -> Frames:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _source(self, ref: CameraRef) -> FrameSource:
        key = (ref.store, ref.file)
        if key not in self._sources:
            if not ref.present:
                raise DataError(
                    f"The pictures of camera '{ref.name}' were in {ref.file}, which is gone. Put the log back there, "
                    f"or import it again from where it is now."
                )
            while len(self._sources) >= self._open_files:
                self._sources.popitem(last=False)[1].close()
            self._sources[key] = _open(ref)
        self._sources.move_to_end(key)
        return self._sources[key]


def decoded(data: bytes, where: str) -> Frame:
    """A JPEG or PNG as an array, (H, W, C).

    Raises:
        DataError: If it is neither.
    """
    try:
        picture = np.array(iio.imread(io.BytesIO(data)))
    except (OSError, ValueError, SyntaxError, IndexError, TypeError, RuntimeError) as error:
        raise DataError(f"{where}: the picture cannot be decoded ({str(error)[:120]}). Copy the log again.") from error
    return picture[..., None] if picture.ndim == 2 else picture


class _Parquet:
    """Pictures as bytes in a column of structs {bytes, path}."""

    def __init__(self, ref: CameraRef) -> None:
        from robot_rl.data.formats.arrow import open_parquet  # noqa: PLC0415 - pyarrow is an extra

        self._file = open_parquet(Path(ref.file))
        sizes = [self._file.metadata.row_group(i).num_rows for i in range(self._file.num_row_groups)]
        self._starts = np.concatenate([[0], np.cumsum(sizes)])
        self._group: tuple[int, str, list[Any]] | None = None

    def frame(self, ref: CameraRef, step: int, time: float | None) -> Frame:
        row = int(ref.start) + step
        where = f"{ref.file}: '{ref.key}' in row {row}"
        if not 0 <= row < self._starts[-1]:
            raise DataError(f"{where}: the file has {self._starts[-1]} rows. Import the log again.")
        group = int(np.searchsorted(self._starts, row, side="right") - 1)
        if self._group is None or self._group[:2] != (group, ref.key):
            self._group = group, ref.key, self._read(group, ref)
        value = self._group[2][row - int(self._starts[group])].as_py()
        return self._picture(value, ref, where)

    def _read(self, group: int, ref: CameraRef) -> list[Any]:
        try:
            return self._file.read_row_group(group, columns=[ref.key])[ref.key]
        except (OSError, ValueError, KeyError) as error:
            raise DataError(f"{ref.file}: column '{ref.key}' cannot be read ({error}). Copy the log again.") from error

    def _picture(self, value: Any, ref: CameraRef, where: str) -> Frame:
        if isinstance(value, bytes):
            return decoded(value, where)
        if isinstance(value, dict):
            if isinstance(value.get("bytes"), bytes):
                return decoded(value["bytes"], where)
            path = Path(ref.file).parent / str(value.get("path"))
            if value.get("path") and path.is_file():
                return decoded(path.read_bytes(), str(path))
        raise DataError(f"{where} holds no picture, neither bytes nor the path of a file that exists.")

    def close(self) -> None:
        self._file.close()


class _Hdf5:
    """Pictures as an array (T, H, W, C), one group a demonstration."""

    def __init__(self, ref: CameraRef) -> None:
        try:
            self._file = h5py.File(ref.file, "r")
        except OSError as error:
            raise DataError(f"{ref.file} cannot be read as HDF5 ({error}). Copy the log again.") from error

    def frame(self, ref: CameraRef, step: int, time: float | None) -> Frame:
        array = self._file.get(ref.key)
        row = int(ref.start) + step
        if not isinstance(array, h5py.Dataset) or not 0 <= row < len(array):
            raise DataError(f"{ref.file}: '{ref.key}' has no picture in row {row}. Import the log again.")
        try:
            return np.asarray(array[row])
        except OSError as error:
            raise DataError(f"{ref.file}: '{ref.key}' row {row} cannot be read ({error}). Copy it again.") from error

    def close(self) -> None:
        self._file.close()


class _TFRecord:
    """Encoded pictures in a bytes list of a tf.train.Example."""

    def __init__(self, ref: CameraRef) -> None:
        from robot_rl.data.formats.rlds.tfrecord import record_at  # noqa: PLC0415 - its checksum is an extra

        self._record_at = record_at
        self._last: tuple[int, dict[str, Any]] | None = None

    def frame(self, ref: CameraRef, step: int, time: float | None) -> Frame:
        from robot_rl.data.formats.rlds.tf_example import parse_example  # noqa: PLC0415

        at = int(ref.start)
        if self._last is None or self._last[0] != at:
            self._last = at, parse_example(self._record_at(Path(ref.file), at), f"{ref.file} at byte {at}")
        pictures = self._last[1].get(ref.key)
        if not isinstance(pictures, list) or not 0 <= step < len(pictures):
            raise DataError(f"{ref.file} at byte {at}: '{ref.key}' has no picture of step {step}. Import it again.")
        return decoded(bytes(pictures[step]), f"{ref.file} at byte {at}, '{ref.key}' step {step}")

    def close(self) -> None:
        self._last = None


def _open(ref: CameraRef) -> FrameSource:
    if ref.store == "video":
        from robot_rl.data.pictures.video import Video  # noqa: PLC0415 - PyAV is an extra

        return Video(Path(ref.file))
    stores = {"parquet": _Parquet, "tfrecord": _TFRecord, "hdf5": _Hdf5}
    if ref.store not in stores:
        raise DataError(f"Camera '{ref.name}' is stored as '{ref.store}'; known are video, {', '.join(stores)}.")
    return stores[ref.store](ref)
