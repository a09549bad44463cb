"""The window: shows what the environment draws, and says what is missing."""

from __future__ import annotations

import sys

import gymnasium as gym
import numpy as np
import pytest

from deploy.teleop.view import Viewed
from robot_rl.errors import ConfigError
from robot_rl.spec import Array


class Painted(gym.Env[Array, Array]):
    """Draws one red pixel, at row 1 and column 2."""

    render_mode = "rgb_array"

    def reset(self, *, seed: int | None = None, options: object = None) -> tuple[Array, dict[str, object]]:
        return np.zeros(1, np.float32), {}

    def render(self) -> np.ndarray:
        picture = np.zeros((4, 6, 3), np.uint8)
        picture[1, 2] = 255, 0, 0
        return picture


def test_a_picture_is_shown_the_right_way_round(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pygame", reason="pygame-ce is in the extra teleop")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    env = Viewed(Painted())
    env.reset()
    assert env._window.get_size() == (6, 4)
    assert tuple(env._window.get_at((2, 1)))[:3] == (255, 0, 0)
    assert tuple(env._window.get_at((1, 2)))[:3] == (0, 0, 0)
    env.close()


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pretended = type(sys)("pygame")
    monkeypatch.setitem(sys.modules, "pygame", pretended)
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match="needs a display"):
        Viewed(Painted())
    monkeypatch.setitem(sys.modules, "pygame", None)
    with pytest.raises(ConfigError, match="pygame-ce"):
        Viewed(Painted())
