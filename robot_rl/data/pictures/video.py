"""Frames of a video file by time, decoded by PyAV."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_rl.data.pictures.cameras import CameraRef
from robot_rl.errors import DataError

AHEAD_S = 2.0  # so far forward it decodes on; further, and backwards, it seeks


class Video:
    """One video file, open at the frame last asked for.

    Args:
        path: The file.

    Raises:
        DataError: If PyAV is missing, or the file is no video.
    """

    def __init__(self, path: Path) -> None:
        try:
            import av  # noqa: PLC0415 - an extra
            from av.error import FFmpegError  # noqa: PLC0415
        except ImportError as error:
            raise DataError(f"Videos need PyAV ({error}). Install it: pip install -e '.[formats]'.") from error
        self.path, self._error = path, FFmpegError
        try:
            self._container = av.open(str(path))
            self._stream: Any = self._container.streams.video[0]
        except (FFmpegError, IndexError, ValueError, OSError) as error:
            raise DataError(f"{path} cannot be read as a video ({error}). Copy or download it again.") from error
        rate = self._stream.average_rate
        self._period = 1 / float(rate) if rate else 1 / 30
        self._frames: Iterator[Any] = iter(())
        self._now: Any = None  # the frame decoded last
        self._next: Any = None  # the one after it

    def frame(self, ref: CameraRef, step: int, time: float | None) -> NDArray[np.uint8]:
        """The picture nearest to the step's time, (H, W, 3).

        Raises:
            DataError: If the video ends before it or is damaged.
        """
        if ref.fps <= 0:
            raise DataError(f"Camera '{ref.name}' has no frame rate, so the time of step {step} is unknown.")
        time = ref.start + (step / ref.fps if time is None else time)
        try:
            found = self._nearest(time)
        except (self._error, ValueError, StopIteration, OSError) as error:
            raise DataError(f"{self.path}: damaged near {time:.3f} s ({error}). Copy or download it again.") from error
        off = abs(_time(found) - time) if found is not None else np.inf
        if found is None or off > max(self._period, 1 / ref.fps):
            last = "no frame" if found is None else f"the nearest frame is at {_time(found):.3f} s"
            raise DataError(
                f"{self.path} has no picture of step {step} at {time:.3f} s: {last}. The video is shorter than the "
                f"episode or of another rate; download it again."
            )
        return found.to_ndarray(format="rgb24")

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def _nearest(self, time: float) -> Any:
        if self._now is None or not _time(self._now) <= time <= _time(self._now) + AHEAD_S:
            self._seek(time)
        while self._next is not None and abs(_time(self._next) - time) <= abs(_time(self._now) - time):
            self._now, self._next = self._next, next(self._frames, None)
        return self._now

    def _seek(self, time: float) -> None:
        at = max(0, int((time - self._period) / float(self._stream.time_base)))
        self._container.seek(at, stream=self._stream, backward=True)
        self._frames = self._container.decode(self._stream)
        self._now, self._next = next(self._frames, None), next(self._frames, None)


def _time(frame: Any) -> float:
    return float(frame.time) if frame.time is not None else 0.0
