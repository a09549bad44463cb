"""The terminal's keyboard as a device; works over ssh, without X.

A terminal tells of presses only, and repeats the last key while it is held. So an axis is on for as long as its key
was pressed a moment ago and then decays to zero: where the connection breaks, motion ends within `GONE_S`.

    i k   forward, back        I K   turn about that axis        1 ... 9   the action's axis that i and k move
    j l   left, right          J L   turn about that axis        + -       faster, slower
    r f   up, down             R F   turn about that axis        c         close or open the gripper

    -> save and go on    <- do the episode again    Esc stop    y n succeeded, failed
    Tab   take over from the policy, or hand back; any motion key takes over while it is used

None of the motion keys is one of the operator's (`deploy.operator.station`: s and space stop, a arms, g goes, q ends).
In simulation, where there is nothing to stop, space takes over and hands back as Tab does.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np

from deploy.teleop.device import AXES, END, FAILURE, FASTER, GRIP, REDO, SAVE, SLOWER, SUCCESS, TAKE, Reading, Word

FRESH_S = 0.15  # an axis is fully on for this long after its key; repeats come every 0.03 s or so
GONE_S = 0.35  # and off from here on

MOTION = {
    key: (axis, sign)
    for axis, pair in enumerate(("ik", "jl", "rf", "IK", "JL", "RF"))
    for key, sign in zip(pair, (1.0, -1.0), strict=True)
}
WORDS: dict[str, Word] = {
    "c": GRIP, "tab": TAKE, "right": SAVE, "left": REDO, "esc": END, "y": SUCCESS, "n": FAILURE,
    "+": FASTER, "=": FASTER, "-": SLOWER, **{digit: digit for digit in "123456789"},
}  # fmt: skip


class Words:
    """Words that keys mean, for every device; another thread hears them.

    Args:
        space_takes: Space means what Tab means; only where it is not the emergency stop.
    """

    def __init__(self, *, space_takes: bool = False) -> None:
        self.space_takes = space_takes
        self._said: list[Word] = []
        self._lock = threading.Lock()

    def hear(self, key: str) -> None:
        """Note what `key` means."""
        word = TAKE if key == "space" and self.space_takes else WORDS.get(key)
        if word is not None:
            self.say(word)

    def say(self, word: Word) -> None:
        """Note a word."""
        with self._lock:
            self._said.append(word)

    def take(self) -> tuple[Word, ...]:
        """Those said since the last call."""
        with self._lock:
            said, self._said = tuple(self._said), []
        return said


class Keyboard:
    """Keys as axes.

    Args:
        clock: Monotonic, s.
    """

    help = "i k j l r f move, I K J L R F turn, c gripper, + - speed, 1-9 first axis"

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._pressed: list[tuple[float, float]] = [(0.0, -np.inf)] * AXES  # direction, when; replaced whole

    @staticmethod
    def open() -> Keyboard:
        """Always there; whoever opens it passes it the keys of a terminal."""
        return Keyboard()

    def hear(self, key: str) -> None:
        """A key of the terminal was pressed."""
        if key in MOTION:
            axis, sign = MOTION[key]
            self._pressed[axis] = sign, self._clock()

    def read(self) -> Reading:
        """Each axis by the age of its last key."""
        now = self._clock()
        axes = [sign * strength(now - when) for sign, when in self._pressed]
        return Reading(np.array(axes, np.float32))

    def close(self) -> None:
        """Nothing to let go of."""


def strength(age_s: float) -> float:
    """How far an axis is on, in [0, 1], when its key was last pressed `age_s` ago."""
    return float(np.clip((GONE_S - age_s) / (GONE_S - FRESH_S), 0.0, 1.0))
