"""Drawing a MuJoCo scene without a display."""

from __future__ import annotations

import importlib
import os
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from robot_rl.errors import EnvError

BACKENDS = ("egl", "osmesa")  # a GPU or Mesa's libEGL; Mesa's software libOSMesa


class Offscreen:
    """Draws models into memory; the OpenGL context is opened at the first picture.

    Args:
        width: Picture width, pixels.
        height: Picture height, pixels.
        camera: A camera of the scene, by name; an empty name frames the whole scene.
    """

    def __init__(self, width: int, height: int, camera: str) -> None:
        self._width, self._height, self._camera = width, height, camera
        self._context: Any = None
        self._model: Any = None
        self._renderer: Any = None

    def draw(self, model: Any, data: Any) -> NDArray[np.uint8]:
        """RGB picture of the scene, (height, width, 3).

        Raises:
            EnvError: If no OpenGL backend works here, or the scene has no such camera.
        """
        if self._context is None:
            self._context = _open_context(self._width, self._height)
        raise NotImplementedError
