"""`robot-rl teleoperate`: drive an environment or an arm by hand, without recording."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from deploy.online.place import open_place, require_arm, spoken_to
from deploy.operator.station import Station
from deploy.teleop.device import HANDHELD, TeleopName
from deploy.teleop.open import Takeovers, seated
from deploy.teleop.recording import Recording
from deploy.teleop.sitting import Sitting, SittingPlan, resting
from robot_rl.collect import Collector
from robot_rl.config import parse
from robot_rl.console import make_console
from robot_rl.envs import env_spec
from robot_rl.interrupt import interrupt_sets
from robot_rl.intervene import Intervened

DESCRIPTION = """\
Drive an environment, or an arm behind its safety supervisor, by hand; nothing is kept.

    robot-rl teleoperate robosuite/Lift-v1 --teleop gamepad --view
    robot-rl teleoperate --arm franka_fr3 --teleop spacemouse

Keys, whatever the device: right arrow next episode, left arrow again, Esc end. On an arm s and space are the
emergency stop, a arms again, g says that the scene is set. `robot-rl record` does the same and keeps it."""


@dataclass(frozen=True, kw_only=True)
class DriveConfig:
    """What driving by hand needs, recorded or not."""

    env_id: Annotated[str, tyro.conf.Positional] = ""  # Gymnasium id; with --arm that of a simulated one
    arm: str = ""  # drive this arm: name in hardware_configs/, or a .yaml file
    teleop: TeleopName = "keyboard"  # the device; "scripted": the environment's expert
    episodes: int | None = None  # end after so many; default when told to
    noise: float = 0.0  # of the scripted expert; 1 is full scale
    seed: int = 0  # episode i starts from seed + i
    episode_steps: int | None = None  # time limit, control steps; default the environment's
    view: bool = False  # show the environment in a window
    socket: Path | None = None  # with --arm: Unix socket for `robot-rl operator`


def main(argv: Sequence[str]) -> int:
    """Parse and drive."""
    config = parse(DriveConfig, argv, prog="robot-rl teleoperate", description=DESCRIPTION)
    console = make_console()
    plan = SittingPlan(episodes=config.episodes, asks=False)
    sitting = sit(config, plan, console=console)
    console.print(f"{sitting.kept} episodes, {sitting.steps} steps; nothing was recorded")
    return 0


def sit(
    config: DriveConfig,
    plan: SittingPlan,
    *,
    console: Console,
    out: Path | None = None,
    resume: bool = False,
    finish: bool = False,
) -> Sitting:
    """Open everything, drive, and let go.

    Args:
        config: Where and with what.
        plan: When episodes end; its rate is filled in here.
        console: For what a person should know.
        out: Record to this dataset folder; None to drive only.
        resume: Go on with an interrupted recording.
        finish: Write the dataset once the sitting has come to its end.

    Raises:
        ArmError, ConfigError, EnvError, RecorderError: If something cannot be opened or is gone.
    """
    require_arm(config.socket, config.arm)
    by_hand = config.teleop in HANDHELD
    station, stop = Station(), threading.Event()
    station.ending = stop
    with ExitStack() as stack:
        env, arm = open_place(
            config.env_id,
            config.arm,
            station=station,
            episode_steps=config.episode_steps,
            paced=by_hand,
            view=config.view,
        )
        stack.callback(env.close)
        spec = env_spec(env)
        takeovers = Takeovers(noise=config.noise)
        seat = stack.enter_context(seated(config.teleop, spec, arm=arm is not None, always=True, takeovers=takeovers))
        recording = None
        if out is not None:
            recording = Recording(out, spec, resume=resume)
            stack.callback(recording.close)
        number = 0 if recording is None else recording.next_number
        collector = Collector(Intervened(env, seat.pilot), spec, seed=config.seed, episode=number)
        sitting = Sitting(
            collector,
            resting(spec.action_low, spec.action_high),
            seat,
            arm=arm,
            recording=recording,
            plan=replace(plan, rate_hz=spec.rate_hz if by_hand and arm is None else 0.0),
            stop=stop,
            say=lambda text: console.print(text, markup=False),
        )
        console.print(f"{config.teleop}: {seat.help}", markup=False)
        stack.enter_context(interrupt_sets(stop))
        stack.enter_context(spoken_to(station, arm=arm is not None, socket=config.socket, hear=seat.hear))
        sitting.run()
        if recording is not None and finish and sitting.ended:
            recording.finish(origin=f"{config.teleop}:{config.env_id or config.arm}", notes=(_note(config),))
    return sitting


def _note(config: DriveConfig) -> str:
    return f"driven with {config.teleop}, seed {config.seed}; times are the control rate's grid"
