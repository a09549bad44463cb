"""`robot-rl record`: demonstrations, by hand or from a scripted expert."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from deploy.commands.teleoperate import DriveConfig, sit
from deploy.teleop.device import HANDHELD, TeleopName
from deploy.teleop.sitting import SittingPlan
from robot_rl.config import parse
from robot_rl.console import after_data, make_console, print_json
from robot_rl.data.dataset import load_dataset
from robot_rl.errors import ConfigError
from sim.commands.record import RecordConfig, check, record

DESCRIPTION = """\
Make demonstrations. With a scripted expert, in simulation:

    robot-rl record robosuite/Lift-v1 --out data/lift --episodes 50 --noise 0.1

The noisy action is the one executed and recorded. An episode ends a few steps after success. The same options
and seed make the same dataset. There are experts for robosuite/Lift-v1, robosuite/Door-v1, VirtualArm-v1 and
all of Meta-World, such as metaworld/door-close-v3.

By hand, in any environment or on an arm:

    robot-rl record robosuite/Lift-v1 --teleop gamepad --view --out data/lift
    robot-rl record --arm franka_fr3 --teleop spacemouse --out data/reach

Right arrow keeps the episode and goes on, left arrow does it again, y and n label and keep it, Esc ends (the
open episode is dropped). On an arm s and space are the emergency stop, a arms again, g: the scene is set. Every
step is on disk before the next: after a crash or Ctrl-C, --resume goes on and offers the open episode.
The folder is a dataset that `robot-rl pretrain` and `robot-rl data info` read."""


@dataclass(frozen=True, kw_only=True)
class RecordCommand(RecordConfig):
    """Make demonstrations."""

    env_id: Annotated[str, tyro.conf.Positional] = ""  # Gymnasium id, such as robosuite/Lift-v1
    arm: str = ""  # record on this arm: name in hardware_configs/, or a .yaml file; needs --teleop
    teleop: TeleopName | None = None  # the device of whoever drives; "scripted": the expert in a person's place
    view: bool = False  # show the environment in a window
    socket: Path | None = None  # with --arm: Unix socket for `robot-rl operator`
    resume: bool = False  # go on with an interrupted recording by hand


def main(argv: Sequence[str]) -> int:
    """Parse, record, and say where things are."""
    config = parse(RecordCommand, argv, prog="robot-rl record", description=DESCRIPTION)
    check(config)
    if config.teleop is None:
        if config.arm or config.resume or config.socket or config.view:
            raise ConfigError(
                "--arm, --view, --socket and --resume are for recording by hand: name the device by --teleop."
            )
        if not config.env_id:
            raise ConfigError("Say where to record: an environment's id, such as robosuite/Lift-v1.")
        return record(config)
    return _by_hand(config, config.teleop)


def _by_hand(config: RecordCommand, teleop: TeleopName) -> int:
    if config.pause:
        raise ConfigError(f"--pause {config.pause:g} is for recording without --teleop.")
    if config.noises:
        raise ConfigError("--noises is for recording without --teleop.")
    console = make_console(stderr=config.json)
    driving = DriveConfig(
        env_id=config.env_id,
        arm=config.arm,
        teleop=teleop,
        episodes=config.episodes,
        noise=config.noise,
        seed=config.seed,
        episode_steps=config.episode_steps,
        view=config.view,
        socket=config.socket,
    )
    plan = SittingPlan(
        episodes=config.episodes,
        after_success=None if config.arm else config.after_success,
        asks=teleop in HANDHELD,
        only_successes=config.only_successes,
    )
    sitting = sit(driving, plan, console=console, out=config.out, resume=config.resume, finish=True)
    if not sitting.ended:
        console.print("Interrupted; everything is kept. Go on with the same command and --resume.")
        return 130
    dataset = load_dataset(config.out)
    if config.json:
        print_json({"out": str(config.out), "episodes": len(dataset), "steps": dataset.total_steps})
        return 0
    console.print(
        f"{len(dataset)} episodes, {dataset.total_steps} steps in {config.out}\n{after_data(config.out)}",
        markup=False,
    )
    return 0
