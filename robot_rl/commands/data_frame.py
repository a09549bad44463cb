"""`robot-rl data frame`: one picture of a dataset, by camera, episode and step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import tyro
from numpy.typing import NDArray

from robot_rl.config import nearest, parse
from robot_rl.console import make_console, print_json
from robot_rl.data.dataset import Dataset, load_dataset
from robot_rl.data.pictures.cameras import CameraRef
from robot_rl.data.pictures.frames import Frames
from robot_rl.errors import DataError

FRAME_HELP = "Write one picture of a dataset's camera to a PNG file."


@dataclass(frozen=True, kw_only=True)
class FrameConfig:
    """Fetch a picture."""

    dataset: tyro.conf.Positional[Path]  # dataset folder
    out: Path  # PNG file to write
    episode: int = 0  # which episode, from 0
    step: int = 0  # which control step, from 0
    camera: str = ""  # camera; may be left out where there is one
    json: bool = False  # one JSON object on standard output


def frame(argv: Sequence[str]) -> int:
    """`robot-rl data frame DIR --episode N --step M --out FILE.png`."""
    config = parse(FrameConfig, argv, prog="robot-rl data frame", description=FRAME_HELP)
    ref, times = find_camera(load_dataset(config.dataset), config.episode, config.step, config.camera)
    with Frames() as frames:
        picture = frames.frame(ref, config.step, times)
    try:
        iio.imwrite(config.out, picture if picture.shape[-1] > 1 else picture[..., 0], extension=".png")
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{config.out} cannot be written ({error}). Choose another --out.") from error
    said = {"camera": ref.name, "shape": list(picture.shape), "dtype": str(picture.dtype), "out": str(config.out)}
    if config.json:
        print_json(said)
    else:
        size = "x".join(map(str, picture.shape))
        make_console().print(f"{ref.name}, {size} {picture.dtype}: {config.out}", markup=False)
    return 0


def find_camera(dataset: Dataset, episode: int, step: int, camera: str) -> tuple[CameraRef, NDArray[np.float64] | None]:
    """The camera asked for, and its episode's times.

    Raises:
        DataError: If there is no such episode, step or camera.
    """
    if not 0 <= episode < len(dataset):
        raise DataError(f"{dataset.path} has episodes 0 to {len(dataset) - 1}, not {episode}.")
    found = dataset.episode(episode)
    refs = {ref.name: ref for ref in found.cameras}
    if not refs:
        others = [str(i) for i, group in enumerate(dataset.camera_refs()) if group]
        shown = ", ".join(others[:8]) + (" ..." if len(others) > 8 else "")
        raise DataError(f"{dataset.path}: episode {episode} has no pictures; episodes with some: {shown or 'none'}.")
    if not 0 <= step < len(found):
        raise DataError(f"{dataset.path}: episode {episode} has steps 0 to {len(found) - 1}, not {step}.")
    if not camera and len(refs) > 1:
        raise DataError(f"{dataset.path} has cameras {', '.join(refs)}: choose one with --camera.")
    name = camera or next(iter(refs))
    if name not in refs:
        raise DataError(f"{dataset.path}: no camera '{name}' in episode {episode}.{nearest(name, refs)}")
    return refs[name], found.timestamps
