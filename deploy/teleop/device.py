"""What every device gives: six axes, and words for what is not motion.

Axes follow the robot's base: forward, left, up, and the rotations about them, each in [-1, 1]. Devices are polled by
the control loop, once a tick; packages of theirs are imported when they are opened.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import numpy as np

from robot_rl.errors import ConfigError
from robot_rl.spec import Array

Handheld = Literal["keyboard", "gamepad", "spacemouse"]
TeleopName = Literal["keyboard", "gamepad", "spacemouse", "scripted"]
HANDHELD = get_args(Handheld)

AXES = 6
DEAD_ZONE = 0.08  # of full scale; sticks and caps do not come back to zero

# Words: open or close the gripper, take over or hand back; keep the episode, do it again, stop recording; it
# succeeded, failed; go faster, slower; which axis of the action comes first ("1" to "9").
Word = str
GRIP, TAKE, SAVE, REDO, END, SUCCESS, FAILURE = "grip", "take", "save", "redo", "end", "success", "failure"
FASTER, SLOWER = "faster", "slower"


@dataclass(frozen=True, eq=False)
class Reading:
    """A device at one moment.

    Args:
        axes: Forward, left, up, and rotations about them, (6,), in [-1, 1]; 0 at rest.
        words: Said since the last reading, in order.
    """

    axes: Array
    words: tuple[Word, ...] = ()


class Device(Protocol):
    """Something a person holds."""

    help: str  # what its parts do, in a line or two

    def read(self) -> Reading:
        """As it is now; never waits.

        Raises:
            ArmError: If it is gone: whoever is driven must hold.
        """
        ...

    def hear(self, key: str) -> None:
        """A key of the terminal was pressed; from another thread."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


def live(value: float) -> float:
    """An axis without its dead zone, in [-1, 1], continuous at its edge."""
    size = min(abs(value), 1.0)
    return 0.0 if size < DEAD_ZONE else float(np.copysign((size - DEAD_ZONE) / (1.0 - DEAD_ZONE), value))


def missing_package(device: str, package: str, reason: object) -> ConfigError:
    """The device's package cannot be used."""
    return ConfigError(
        f"--teleop {device} needs the package {package} ({reason}). Run `pip install -e '.[teleop]'`, or use "
        f"--teleop keyboard."
    )


def missing_device(device: str, remedy: str) -> ConfigError:
    """There is none."""
    return ConfigError(f"--teleop {device}: none found. {remedy} Or use --teleop keyboard.")


def open_device(name: Handheld) -> Device:
    """The device of that name.

    Raises:
        ConfigError: If its package or the device itself is missing; the message names the remedy.
    """
    if name == "keyboard":
        from deploy.teleop.keyboard import Keyboard as Found  # noqa: PLC0415 - only the one that is used
    elif name == "gamepad":
        from deploy.teleop.gamepad import Gamepad as Found  # noqa: PLC0415
    else:
        from deploy.teleop.spacemouse import SpaceMouse as Found  # noqa: PLC0415
    return Found.open()
