"""A window that shows a simulation to whoever drives it. Drawn by the environment, shown by `pygame-ce`."""

from __future__ import annotations

import os
import time
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from robot_rl.envs import Env
from robot_rl.errors import ConfigError
from robot_rl.spec import Array

SHOWN_EVERY_S = 0.04  # drawing takes longer than the physics: not at every step


class Viewed(gym.Wrapper[Any, Any, Any, Any]):
    """An environment whose pictures are shown while it is stepped.

    Args:
        env: Made with `render_mode="rgb_array"`.

    Raises:
        ConfigError: If `pygame-ce` or a display is missing.
    """

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self._pygame = _pygame()
        self._window: Any = None
        self._shown_at = float("-inf")

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode and show it."""
        found = self.env.reset(seed=seed, options=options)
        self._show()
        return found

    def step(self, action: Array) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step, and show the outcome where the last picture is old enough."""
        found = self.env.step(action)
        if time.monotonic() - self._shown_at > SHOWN_EVERY_S:
            self._show()
        return found

    def close(self) -> None:
        """Close the window and the environment."""
        self._pygame.display.quit()
        self.env.close()

    def _show(self) -> None:
        picture: Any = self.env.render()
        if picture is None:
            return
        turned: NDArray[np.uint8] = np.swapaxes(picture, 0, 1)  # pygame counts columns first
        if self._window is None:
            self._window = self._pygame.display.set_mode(turned.shape[:2])
            self._pygame.display.set_caption("robot-rl")
        self._pygame.surfarray.blit_array(self._window, turned)
        self._pygame.display.flip()
        self._pygame.event.pump()
        self._shown_at = time.monotonic()


def _pygame() -> Any:
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    try:
        import pygame  # noqa: PLC0415 - an optional dependency  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ConfigError(f"--view needs the package pygame-ce ({error}). Run `pip install -e '.[teleop]'`.") from error
    if not any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER")):
        raise ConfigError("--view needs a display, and here there is none. Over ssh, log in with `ssh -X`.")
    try:
        pygame.display.init()
    except pygame.error as error:
        raise ConfigError(f"--view cannot open a window: {error}. Leave it out, or look at DISPLAY.") from error
    return pygame
