"""Where a LeRobot episode's pictures are: in a video, or as bytes in its parquet file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from robot_rl.data.formats.lerobot.info import Feature, LeRobotInfo, element_names, filled
from robot_rl.data.formats.lerobot.listing import Listed
from robot_rl.data.formats.lerobot.rows import Place
from robot_rl.data.pictures.cameras import CameraRef

Cameras = Mapping[int, tuple[CameraRef, ...]]


def cameras(info: LeRobotInfo, places: Mapping[int, Place], listed: Mapping[int, Listed], notes: list[str]) -> Cameras:
    """The cameras of each episode whose file exists; what is missing is noted."""
    found: dict[int, tuple[CameraRef, ...]] = {}
    missing: dict[str, int] = {}
    present: dict[Path, bool] = {}
    for index, place in places.items():
        refs: list[CameraRef] = []
        for feature in info.features.values():
            if not feature.camera:
                continue
            ref = _ref(info, feature, place, listed.get(index))
            if ref is not None and present.setdefault(path := Path(ref.file), path.is_file()):
                refs.append(ref)
            else:
                missing[feature.key] = missing.get(feature.key, 0) + 1
        found[index] = tuple(refs)
    notes += [f"camera '{key}': the files of {n} of {len(places)} episodes are not there" for key, n in missing.items()]
    return found


def _ref(info: LeRobotInfo, feature: Feature, place: Place, entry: Listed | None) -> CameraRef | None:
    shape = picture_shape(feature)
    if feature.dtype == "image":
        return CameraRef(
            name=feature.key, shape=shape, fps=info.fps, store="parquet", file=str(place.file.absolute()),
            key=feature.key, start=float(place.start),
        )  # fmt: skip
    if entry is None and info.major >= 3:
        return None
    if info.major >= 3 and entry is not None:
        chunk, number = (entry.number(f"videos/{feature.key}/{part}_index") for part in ("chunk", "file"))
        if chunk is None or number is None:
            return None
        file = filled(info.video_path, info.root, video_key=feature.key, chunk_index=int(chunk), file_index=int(number))
        start = entry.number(f"videos/{feature.key}/from_timestamp") or 0.0
    else:
        digits = place.file.stem.rpartition("_")[2]
        episode = entry.index if entry is not None else int(digits) if digits.isdigit() else -1
        file = filled(
            info.video_path,
            info.root,
            video_key=feature.key,
            episode_chunk=episode // max(info.chunks_size, 1),
            episode_index=episode,
        )
        start = 0.0
    return CameraRef(name=feature.key, shape=shape, fps=info.fps, store="video", file=str(file.absolute()), start=start)


def picture_shape(feature: Feature) -> tuple[int, int, int]:
    """Height, width and channels, in whatever order the file gives them; zeros where it does not."""
    if len(feature.shape) == 2:
        return feature.shape[0], feature.shape[1], 1
    if len(feature.shape) != 3:
        return 0, 0, 0
    names, own = element_names(feature, 3)
    first = [n[:1].lower() for n in names]
    if own and set(first) == {"h", "w", "c"}:
        height, width, channels = (feature.shape[first.index(letter)] for letter in "hwc")
        if channels <= 4 or feature.shape[0] > 4:  # some recorders write a shape that its names don't fit
            return height, width, channels
    if feature.shape[0] <= 4 < feature.shape[2]:
        return feature.shape[1], feature.shape[2], feature.shape[0]
    return feature.shape[0], feature.shape[1], feature.shape[2]
