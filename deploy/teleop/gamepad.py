"""A gamepad, by SDL's table of controllers: the same names on every make. Read by `pygame-ce`; needs no display."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Protocol

import numpy as np

from deploy.teleop.device import (
    FAILURE,
    GRIP,
    REDO,
    SAVE,
    SUCCESS,
    TAKE,
    Reading,
    Word,
    live,
    missing_device,
    missing_package,
)
from robot_rl.errors import ArmError

FULL_SCALE = 32767.0
LEFT_X, LEFT_Y, RIGHT_X, RIGHT_Y, LEFT_TRIGGER, RIGHT_TRIGGER = range(6)  # SDL_GameControllerAxis
LEFT_SHOULDER, RIGHT_SHOULDER = 9, 10  # SDL_GameControllerButton
WORDS: dict[int, Word] = {0: GRIP, 1: TAKE, 2: FAILURE, 3: SUCCESS, 4: REDO, 6: SAVE}  # A, B, X, Y, Back, Start


class Pad(Protocol):
    """An open controller."""

    def attached(self) -> bool:
        """Whether it is still there."""
        ...

    def get_axis(self, axis: int) -> int:
        """In [-32768, 32767]; triggers from 0."""
        ...

    def get_button(self, button: int) -> bool:
        """Whether it is down."""
        ...

    def quit(self) -> None:
        """Let go of it."""
        ...


class Gamepad:
    """Sticks, triggers and shoulders as axes.

    Args:
        pad: Open.
        update: Brings its values up to date.
    """

    help = (
        "left stick moves, triggers up and down, right stick pitch and yaw, shoulders roll, A gripper, B takes over, "
        "Start saves, Back does it again, Y succeeded, X failed"
    )

    def __init__(self, pad: Pad, update: Callable[[], object]) -> None:
        self._pad, self._update = pad, update
        self._down: frozenset[int] = frozenset()

    @staticmethod
    def open() -> Gamepad:
        """The first one plugged in.

        Raises:
            ConfigError: If `pygame-ce` or the gamepad is missing.
        """
        os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
        if not any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")):
            os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
        os.environ.setdefault("SDL_JOYSTICK_ALLOW_BACKGROUND_EVENTS", "1")  # there is no window to have the focus
        try:
            import pygame  # noqa: PLC0415 - an optional dependency  # pyright: ignore[reportMissingImports]
            from pygame._sdl2 import controller  # noqa: PLC0415  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise missing_package("gamepad", "pygame-ce", error) from error
        pygame.display.init()
        controller.init()
        found = [i for i in range(controller.get_count()) if controller.is_controller(i)]
        if not found:
            raise missing_device("gamepad", "Plug it in and let this user read /dev/input (group input).")
        return Gamepad(controller.Controller(found[0]), pygame.event.pump)

    def hear(self, key: str) -> None:
        """Keys do not move it."""

    def read(self) -> Reading:
        """Where sticks and buttons are.

        Raises:
            ArmError: If it is gone.
        """
        self._update()
        pad = self._pad
        if not pad.attached():
            raise ArmError("The gamepad is gone. Plug it in and start again.")
        x, y, turn, pitch, sink, rise = (live(pad.get_axis(axis) / FULL_SCALE) for axis in range(6))
        roll = float(pad.get_button(RIGHT_SHOULDER)) - float(pad.get_button(LEFT_SHOULDER))
        down = frozenset(button for button in WORDS if pad.get_button(button))
        words = tuple(WORDS[button] for button in sorted(down - self._down))
        self._down = down
        return Reading(np.array([-y, -x, rise - sink, roll, -pitch, -turn], np.float32), words)

    def close(self) -> None:
        """Let go of it."""
        self._pad.quit()
