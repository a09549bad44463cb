"""A 3Dconnexion SpaceMouse, read as a USB HID device by `hidapi`.

Reports are little-endian: 1 carries translation (and in newer mice rotation behind it), 2 rotation, 3 the buttons.
The cap's own axes are x right, y towards the person, z down; full scale is 350. A mouse reports every 8 ms while its
cap is out of its rest, also where it is held still, and then a few zeros (seen on a SpaceNavigator:
https://github.com/FreeSpacenav/spacenavd/issues/108): a silent one with its cap pushed has lost its radio link.
"""

from __future__ import annotations

import struct
import time
from typing import Any, Protocol

import numpy as np

from deploy.teleop.device import AXES, GRIP, TAKE, Reading, Word, live, missing_device, missing_package
from robot_rl.errors import ArmError

FULL_SCALE = 350.0
OWN_VENDOR = 0x256F  # 3Dconnexion; everything it sells is a 3D mouse
LOGITECH, LOGITECH_MICE = 0x046D, frozenset({0xC603, 0xC605, 0xC606, 0xC621, 0xC623, 0xC625, 0xC626, 0xC627, 0xC628,
                                             0xC629, 0xC62B})  # fmt: skip
MOTION, ROTATION, BUTTONS = 1, 2, 3
SILENCE_S = 0.25  # without a report of a cap that is pushed: what it said last holds no longer
LONGEST_BACKLOG = 100  # reports read in one tick, at most; the mouse sends some 125 a second


class Hid(Protocol):
    """An open HID device."""

    def read(self, max_length: int) -> list[int]:
        """A report, or nothing where none waits."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class SpaceMouse:
    """The cap as axes; the first button is the gripper's, the second takes over.

    Args:
        mouse: Open and not blocking.
    """

    help = "the cap moves and turns, left button gripper, right button takes over; + - speed, 1-9 first axis"

    def __init__(self, mouse: Hid) -> None:
        self._mouse = mouse
        self._cap = np.zeros(AXES)  # in the mouse's own axes, [-1, 1]
        self._buttons = 0
        self._heard = time.monotonic()

    @staticmethod
    def open() -> SpaceMouse:
        """The first one plugged in.

        Raises:
            ConfigError: If `hidapi` or the mouse is missing, or may not be opened.
        """
        try:
            import hid  # noqa: PLC0415 - an optional dependency  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise missing_package("spacemouse", "hidapi", error) from error
        found: list[dict[str, Any]] = [info for info in hid.enumerate() if is_space_mouse(info)]
        if not found:
            raise missing_device("spacemouse", "Plug it in, or connect its receiver; `lsusb` lists it.")
        mouse: Any = hid.device()
        try:
            mouse.open_path(found[0]["path"])
        except OSError as error:
            raise missing_device(
                "spacemouse",
                f"One is plugged in but cannot be opened ({error}): allow it by a udev rule such as "
                f'SUBSYSTEM=="hidraw", ATTRS{{idVendor}}=="256f", MODE="0666".',
            ) from error
        mouse.set_nonblocking(1)
        return SpaceMouse(mouse)

    def hear(self, key: str) -> None:
        """Keys do not move it."""

    def read(self) -> Reading:
        """The latest of the reports that wait.

        Raises:
            ArmError: If the mouse is gone.
        """
        words: list[Word] = []
        for _ in range(LONGEST_BACKLOG):
            try:
                report = bytes(self._mouse.read(64))
            except (OSError, ValueError) as error:
                raise ArmError(f"The SpaceMouse is gone ({error}). Plug it in and start again.") from error
            if not report:
                break
            words += self._take(report)
        if time.monotonic() - self._heard > SILENCE_S:
            self._cap[:] = 0.0
        x, y, z, about_x, about_y, about_z = (live(value) for value in self._cap)
        return Reading(np.array([-y, -x, -z, -about_y, -about_x, -about_z], np.float32), tuple(words))

    def close(self) -> None:
        """Let go of it."""
        self._mouse.close()

    def _take(self, report: bytes) -> list[Word]:
        kind, body = report[0], report[1:]
        if kind in (MOTION, ROTATION) and len(body) >= 6:
            first = 0 if kind == MOTION else 3
            count = 6 if kind == MOTION and len(body) >= 12 else 3
            self._heard = time.monotonic()
            self._cap[first : first + count] = np.array(struct.unpack_from(f"<{count}h", body)) / FULL_SCALE
        elif kind == BUTTONS and body:
            pressed = body[0] & ~self._buttons
            self._buttons = body[0]
            return [word for bit, word in ((1, GRIP), (2, TAKE)) if pressed & bit]
        return []


def is_space_mouse(info: dict[str, Any]) -> bool:
    """Whether a line of `hid.enumerate()` is a 3D mouse."""
    vendor, product = info["vendor_id"], info["product_id"]
    return vendor == OWN_VENDOR or (vendor == LOGITECH and product in LOGITECH_MICE)
