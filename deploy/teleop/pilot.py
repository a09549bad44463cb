"""A person at a device, as whoever may command instead of the policy."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from deploy.teleop.device import END, FASTER, GRIP, SLOWER, TAKE, Device, Word
from deploy.teleop.drive import Drive
from deploy.teleop.keyboard import Words
from robot_rl.spec import Array

LINGER_S = 0.5  # a person stays in command this long after their last motion: bridges a key's repeat delay
SLOWEST, FASTEST, FASTER_BY = 0.1, 1.0, 1.25


class HandPilot:
    """A device drives while it is moved, or from one `TAKE` to the next.

    Args:
        device: Open; closing it is the caller's.
        drive: For the action.
        words: What keys say beside the device.
        always: The person commands at every step: there is no policy.
        speed: Share of full scale, changed by words.
        clock: Monotonic, s.
    """

    def __init__(
        self,
        device: Device,
        drive: Drive,
        words: Words,
        *,
        always: bool = False,
        speed: float = 0.5,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._device, self._drive, self._words = device, drive, words
        self._always, self._speed, self._clock = always, speed, clock
        self._taken, self._driving = False, False  # by a word; at the last step
        self._moved_at = -np.inf
        self._first, self._closed = 0, None if not always else False
        self._unused: list[Word] = []

    def begin(self, obs: Array, seed: int) -> None:
        """An episode begins: nobody commands yet, and the gripper is open where a person records.

        What was pressed before it is not obeyed in it, but for the wish to end.
        """
        del obs, seed
        self.listen()
        self._unused = [word for word in self._unused if word == END]
        self._taken = self._driving = False
        self._moved_at = -np.inf
        self._closed = False if self._always else None

    def command(self, obs: Array, asked: Array) -> Array | None:
        """The person's action while they command."""
        reading = self._device.read()
        gripped = self._obey((*reading.words, *self._words.take()), asked)
        if gripped or np.any(reading.axes):
            self._moved_at = self._clock()
        if not (self._always or self._taken or self._clock() - self._moved_at < LINGER_S):
            self._driving = False
            self._closed = None  # the policy's again
            return None
        if not self._driving:
            self._driving = True
            self._drive.begin(obs, asked)
        return self._drive.action(obs, self._speed * reading.axes, first=self._first, closed=self._closed)

    def listen(self) -> None:
        """Hear words while nothing is driven; those about driving mean nothing then."""
        said = (*self._device.read().words, *self._words.take())
        self._unused += [word for word in said if word not in (GRIP, TAKE)]

    def take_words(self) -> list[Word]:
        """Words that are not about driving, since the last call."""
        said, self._unused = self._unused, []
        return said

    def _obey(self, words: tuple[Word, ...], asked: Array) -> bool:
        """Carry out what is about driving; whether the gripper was."""
        gripped = False
        for word in words:
            if word == GRIP:
                now = self._drive.closed(asked) if self._closed is None else self._closed
                self._closed, gripped = not now, True
            elif word == TAKE:
                self._taken, self._moved_at = not self._taken, -np.inf
            elif word in (FASTER, SLOWER):
                change = FASTER_BY if word == FASTER else 1.0 / FASTER_BY
                self._speed = float(np.clip(self._speed * change, SLOWEST, FASTEST))
            elif word.isdigit():
                self._first = int(word) - 1
            else:
                self._unused.append(word)
        return gripped
