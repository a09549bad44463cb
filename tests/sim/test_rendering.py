from __future__ import annotations

import importlib
import os

import numpy as np
import pytest

import sim.rendering
from robot_rl.envs import make_env
from robot_rl.errors import EnvError
from sim.mj import mujoco
from sim.rendering import Offscreen

SCENE = """
<mujoco><worldbody>
  <light pos="0 0 3"/>
  <camera name="top" pos="0 0 2"/>
  <geom type="sphere" size=".3" pos="0 .4 0" rgba="1 0 0 1"/>
  <geom type="sphere" size=".3" pos="0 -.4 0" rgba="0 0 1 1" group="3"/>
</worldbody></mujoco>"""


def scene() -> tuple[object, object]:
    model = mujoco.MjModel.from_xml_string(SCENE)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return model, data


def draw(offscreen: Offscreen) -> np.ndarray:
    try:
        return offscreen.draw(*scene())
    except EnvError as error:
        pytest.skip(f"no OpenGL here: {error}")


def test_the_picture_is_upright_and_as_large_as_asked() -> None:
    offscreen = Offscreen(120, 80, "top")
    picture = draw(offscreen)
    assert picture.shape == (80, 120, 3)
    red, blue = picture[:40, :, 0].mean(), picture[40:, :, 0].mean()
    assert red > blue + 20  # the red ball is at +y, which is up in the picture
    np.testing.assert_array_equal(offscreen.draw(*scene()), picture)  # another model, the same scene
    offscreen.close()
    np.testing.assert_array_equal(offscreen.draw(*scene()), picture)
    offscreen.close()


def test_an_unknown_camera_names_those_there_are() -> None:
    with pytest.raises(EnvError, match="no camera 'side'; it has: top"):
        Offscreen(10, 10, "side").draw(*scene())


def test_no_opengl_is_said_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise AttributeError(f"{name}: no attribute 'eglQueryDevicesEXT'")

    monkeypatch.setattr(sim.rendering.importlib, "import_module", missing)
    with pytest.raises(EnvError, match=r"does not work here .*libegl1.*MUJOCO_GL=osmesa"):
        Offscreen(10, 10, "top").draw(*scene())
    assert importlib.import_module is missing


@pytest.mark.parametrize("env_id", ["Hopper-v5", "AdroitHandPen-v1"])
def test_gymnasiums_own_renderer_needs_no_display(env_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    draw(Offscreen(10, 10, "top"))  # skips where there is no OpenGL
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.delenv("DISPLAY", raising=False)
    env = make_env(env_id, render_mode="rgb_array")
    env.reset(seed=0)
    picture = env.render()
    assert isinstance(picture, np.ndarray)
    assert picture.std() > 5
    assert "MUJOCO_GL" not in os.environ
    env.close()
