"""A person, or their stand-in, drives episode after episode; what is kept goes into a recording."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from deploy.control.rate import Pacer
from deploy.online.arm_env import ArmEnv
from deploy.teleop.device import END, FAILURE, REDO, SAVE, SUCCESS
from deploy.teleop.open import Seat
from deploy.teleop.recording import Recording
from robot_rl.collect import Collector
from robot_rl.data.transition import Success
from robot_rl.spec import Array

IDLE_S = 0.02  # between two looks while there is nothing to do
_LEFT_OUT = "left out"  # a failure, by the plan and not by a person


@dataclass(frozen=True, kw_only=True)
class SittingPlan:
    """When episodes end, and which are kept.

    Args:
        episodes: To keep; None for as many as the person likes.
        after_success: Control steps to go on after success; None lets an episode go on.
        asks: At an episode's end, wait for the person to keep it or do it again; else it is kept.
        only_successes: Where nobody is asked: leave failures out.
        rate_hz: Control rate to keep; 0 to run as fast as the environment goes.
    """

    episodes: int | None = None
    after_success: int | None = None
    asks: bool = True
    only_successes: bool = False
    rate_hz: float = 0.0


class Sitting:
    """From the first episode to the last.

    Args:
        collector: Steps the environment; the seat's pilot commands in it.
        rest: Action that would come next if nobody commanded, (A,).
        seat: Whoever drives.
        arm: The same environment where it is an arm.
        recording: Where steps go; None to drive only.
        plan: When episodes end.
        stop: Set to leave at once, everything as it is.
        say: Told what a person should know.
    """

    def __init__(
        self,
        collector: Collector,
        rest: Array,
        seat: Seat,
        *,
        arm: ArmEnv | None,
        recording: Recording | None,
        plan: SittingPlan,
        stop: threading.Event,
        say: Callable[[str], None],
    ) -> None:
        self._collector, self._rest, self._seat, self._arm = collector, rest, seat, arm
        self._recording, self._plan, self._stop, self._say = recording, plan, stop, say
        self.kept, self.steps, self.ended = 0, 0, False
        self._pacer = Pacer(plan.rate_hz, (), kept_ticks=1) if plan.rate_hz else None

    def run(self) -> None:
        """Until enough is kept, the person stops, or `stop` is set; then `ended` tells whether it came to an end.

        Raises:
            ArmError: If arm or device is gone.
            DataError: If a step could not be stored: nothing more is commanded.
        """
        self._take_up()
        while not (self.ended or self._stop.is_set() or self._enough()):
            if self._wait_for_scene():
                self._close(*self._episode())
        self.ended = self.ended or self._enough()

    def _take_up(self) -> None:
        """The open episode of an interrupted recording."""
        recording = self._recording
        if recording is None or not recording.open_steps:
            return
        self._say(
            f"The recording was interrupted {recording.open_steps} steps into an episode. Right arrow keeps them, left "
            f"arrow drops them, Esc drops them and stops."
            if self._plan.asks
            else f"The recording was interrupted; the {recording.open_steps} steps of its open episode are kept."
        )
        word = self._ask() if self._plan.asks else SAVE
        if word in (REDO, END):  # what comes next would else be appended to them, as one episode
            recording.drop()
            self.ended = word == END
        elif word in (SAVE, SUCCESS, FAILURE):
            recording.keep(self._collector.episode, _label(word))
            self._collector.episode += 1

    def _enough(self) -> bool:
        wanted = self._plan.episodes
        count = self.kept if self._recording is None else len(self._recording.kept)
        return wanted is not None and count >= wanted

    def _wait_for_scene(self) -> bool:
        """Whether the next episode may begin; arms say why not."""
        said = ""
        while self._arm is not None and self._arm.waits and not self._stop.is_set():
            if said != self._arm.waits:
                said = self._arm.waits
                self._say(said)
            if END in self._seat.take_words():
                self.ended = True
                return False
            time.sleep(IDLE_S)
        return not self._stop.is_set()

    def _episode(self) -> tuple[str, int, bool]:
        """One episode: the word that ended it ("" where it ended by itself), its number, whether it succeeded."""
        number, since_success, success = self._collector.episode, 0, False
        self._say(f"episode {number}: go")
        self._seat.take_words()
        if self._pacer is not None:
            self._pacer.pause()
        while not self._stop.is_set():
            if self._pacer is not None:
                self._pacer.wait()
            rows, ended = self._collector.step(lambda _obs, _noise: self._rest, 0)
            self.steps += 1
            if self._recording is not None:
                self._recording.add(rows)
            success = rows[0]["success"] == Success.YES
            word = next((w for w in self._seat.take_words() if w in (SAVE, REDO, END, SUCCESS, FAILURE)), "")
            if word or ended is not None:
                return word, number, success
            since_success += success
            if self._plan.after_success is not None and since_success > self._plan.after_success:
                return "", number, success
        return "", number, success

    def _close(self, word: str, number: int, success: bool) -> None:
        """Keep or drop the episode that has ended."""
        if self._stop.is_set():
            return
        if self._arm is not None:
            self._arm.hold()
        if not word and self._plan.asks:
            self._say(
                f"episode {number} is over{', achieved' if success else ''}. Right arrow keeps it, left arrow does it "
                f"again, y or n labels and keeps it, Esc stops."
            )
            word = self._ask()
        elif not word:
            word = SAVE if success or not self._plan.only_successes else _LEFT_OUT
        if word:
            self._settle(word, number)

    def _settle(self, word: str, number: int) -> None:
        recording, collector = self._recording, self._collector
        keeps = word not in (REDO, END, _LEFT_OUT)
        if recording is not None:
            if keeps:
                recording.keep(number, _label(word))
            else:
                recording.drop()
        self.kept += keeps
        self.ended = word == END
        collector.leave()
        collector.episode = number if word == REDO else number + 1
        if recording is not None:
            self._say(f"episode {number} is {'kept' if keeps else 'dropped'}")

    def _ask(self) -> str:
        """What the person wants done with the episode; "" where they left."""
        while not self._stop.is_set():
            word = next((w for w in self._poll() if w in (SAVE, REDO, END, SUCCESS, FAILURE)), "")
            if word:
                return word
            time.sleep(IDLE_S)
        return ""

    def _poll(self) -> list[str]:
        """Words while nothing is driven: the device is still read, for those of its buttons."""
        self._seat.poll()
        return self._seat.take_words()


def _label(word: str) -> Success | None:
    return {SUCCESS: Success.YES, FAILURE: Success.NO}.get(word)


def resting(low: Array, high: Array) -> Array:
    """The action nearest to zero within bounds, (A,)."""
    return np.clip(np.zeros_like(low), low, high)
