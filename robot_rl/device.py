"""Where learning runs."""

from __future__ import annotations

from typing import Literal

import torch

from robot_rl.errors import ConfigError

DeviceName = Literal["auto", "cpu", "cuda"]


def pick_device(name: DeviceName) -> str:
    """The torch device for `--device`.

    Raises:
        ConfigError: If CUDA is asked for and absent.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device cuda, but this torch sees no CUDA device. Use --device cpu or auto.")
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return name
