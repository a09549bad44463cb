"""The pilot that `--teleop NAME` asks for."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass

from deploy.teleop.device import Device, TeleopName, open_device
from deploy.teleop.drive import drive_for
from deploy.teleop.keyboard import Words
from deploy.teleop.pilot import HandPilot
from robot_rl.errors import ConfigError
from robot_rl.experts import make_expert
from robot_rl.intervene import Pilot, ScriptedPilot
from robot_rl.spec import Spec


@dataclass(frozen=True, kw_only=True)
class Takeovers:
    """When the scripted expert takes over.

    Args:
        share: Of the steps, in [0, 1].
        until: Interactions over which the share falls to 0; 0 keeps it.
        steps: Length of a takeover.
        since: Interactions before this process began.
        noise: Of the expert's action; 1 is full scale.
    """

    share: float = 1.0
    until: int = 0
    steps: int = 20
    since: int = 0
    noise: float = 0.0


@dataclass(frozen=True)
class Seat:
    """A pilot and what a terminal's keys have to reach for it.

    Args:
        pilot: Whoever commands.
        words: What keys and buttons say beside driving.
        hear: Takes the terminal's keys.
        help: What the device's parts do.
    """

    pilot: Pilot
    words: Words
    hear: Callable[[str], None]
    help: str

    def poll(self) -> None:
        """Look at the device while nothing is driven."""
        if isinstance(self.pilot, HandPilot):
            self.pilot.listen()

    def take_words(self) -> list[str]:
        """Words that are not about driving, since the last call."""
        return self.pilot.take_words() if isinstance(self.pilot, HandPilot) else list(self.words.take())


@contextmanager
def seated(
    name: TeleopName, spec: Spec, *, arm: bool, always: bool, takeovers: Takeovers | None = None
) -> Generator[Seat]:
    """Open the device, and let go of it at the end.

    Args:
        name: As after `--teleop`.
        spec: Of what is driven.
        arm: Space is the emergency stop and so does not take over.
        always: The pilot commands at every step.
        takeovers: Of the scripted one.

    Raises:
        ConfigError: If the device or its package is missing, or it cannot drive such actions.
        EnvError: If the environment has no scripted expert.
    """
    words = Words(space_takes=not arm)
    if name == "scripted":
        plan = takeovers or Takeovers()
        expert = make_expert(spec.env_id, spec, noise=plan.noise)
        pilot = ScriptedPilot(expert, share=plan.share, until=plan.until, steps=plan.steps)
        pilot.interactions = plan.since
        yield Seat(pilot, words, words.hear, "the expert drives")
        return
    if name == "keyboard" and not sys.stdin.isatty():
        raise ConfigError("--teleop keyboard needs a terminal on standard input; here there is none.")
    drive = drive_for(spec)
    device: Device = open_device(name)

    def hear(key: str) -> None:
        words.hear(key)
        device.hear(key)

    try:
        yield Seat(HandPilot(device, drive, words, always=always), words, hear, device.help)
    finally:
        device.close()
