"""Drawing a MuJoCo scene without a display.

Works with EGL (a GPU's, or Mesa's software one: Debian packages libegl1 and libegl-mesa0) or with OSMesa
(libosmesa6). EGL is taken where its library is found; `MUJOCO_GL=osmesa` in the environment overrides that.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes.util
import importlib
import os
import weakref
from collections.abc import Generator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_rl.errors import EnvError
from sim.mj import mujoco

LIBRARIES = {"egl": "EGL", "osmesa": "OSMesa"}  # in order of preference: backend, shared library


class Offscreen:
    """Draws models into memory; the OpenGL context is opened at the first picture.

    Args:
        width: Picture width, pixels.
        height: Picture height, pixels.
        camera: A camera of the scene, by name.
        hidden_groups: Geometry groups to leave out, such as collision shapes.
    """

    def __init__(self, width: int, height: int, camera: str, hidden_groups: Sequence[int] = ()) -> None:
        self._size = width, height
        self._camera = camera
        self._option = mujoco.MjvOption()
        self._option.geomgroup[list(hidden_groups)] = 0
        self._gl: Any = None
        self._model: Any = None
        self._context: Any = None

    def draw(self, model: Any, data: Any) -> NDArray[np.uint8]:
        """RGB picture of the scene, (height, width, 3).

        Args:
            model: MuJoCo model; it may be another one than last time.
            data: Its state, with positions computed.

        Raises:
            EnvError: If no OpenGL backend works here, or the scene has no such camera.
        """
        width, height = self._size
        camera = self._camera_of(model)
        self._prepare(model)
        scene = mujoco.MjvScene(model, maxgeom=10_000)
        kinds = mujoco.mjtCatBit.mjCAT_ALL
        mujoco.mjv_updateScene(model, data, self._option, None, camera, kinds, scene)
        view = mujoco.MjrRect(0, 0, width, height)
        mujoco.mjr_render(view, scene, self._context)
        picture = np.empty((height, width, 3), np.uint8)
        mujoco.mjr_readPixels(picture, None, view, self._context)
        return picture[::-1].copy()  # OpenGL counts rows from below

    def close(self) -> None:
        """Free the OpenGL context; drawing again opens a new one."""
        if self._context is not None:
            self._gl.make_current()
            self._context.free()
        if self._gl is not None:
            self._gl.free()
        self._gl = self._context = self._model = None

    def _prepare(self, model: Any) -> None:
        if self._gl is None:
            self._gl = _open_gl(*self._size)
            # Before OpenGL's own exit hook, which was registered just now: the last one in goes first.
            atexit.register(_close, weakref.ref(self))
        self._gl.make_current()
        if model is not self._model:
            if self._context is not None:
                self._context.free()
            model.vis.global_.offwidth, model.vis.global_.offheight = self._size
            self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
            self._model = model
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)

    def _camera_of(self, model: Any) -> Any:
        known = [model.camera(i).name for i in range(model.ncam)]
        if self._camera not in known:
            raise EnvError(f"The scene has no camera '{self._camera}'; it has: {', '.join(known)}.")
        camera = mujoco.MjvCamera()
        camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        camera.fixedcamid = known.index(self._camera)
        return camera


@contextlib.contextmanager
def headless() -> Generator[None]:
    """Within this, Gymnasium's own MuJoCo renderer draws off-screen too; alone it insists on a display."""
    if "MUJOCO_GL" in os.environ or "DISPLAY" in os.environ:
        yield
        return
    os.environ["MUJOCO_GL"] = _backend()
    try:
        yield
    finally:
        os.environ.pop("MUJOCO_GL", None)


def _backend() -> str:
    found = [name for name, library in LIBRARIES.items() if ctypes.util.find_library(library)]
    asked = os.environ.get("MUJOCO_GL", "").lower()
    return "osmesa" if asked == "osmesa" or not found else found[0]


def _open_gl(width: int, height: int) -> Any:
    backend = _backend()
    try:
        return importlib.import_module(f"mujoco.{backend}").GLContext(width, height)
    except Exception as error:
        # What is missing shows in many ways: import errors, attribute errors of PyOpenGL, EGL errors.
        raise EnvError(
            f"Off-screen drawing with {backend.upper()} does not work here "
            f"({type(error).__name__}: {error}). Install Mesa's EGL (Debian: libegl1 libegl-mesa0 "
            f"libgl1-mesa-dri), or libosmesa6 and set MUJOCO_GL=osmesa."
        ) from error


def _close(reference: weakref.ref[Offscreen]) -> None:
    offscreen = reference()
    if offscreen is not None:
        offscreen.close()
