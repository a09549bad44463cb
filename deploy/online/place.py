"""Where a command acts: an environment by its id, or an arm behind its supervisor; and who may speak there."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deploy.arms.config import load_arm
from deploy.online.arm_env import ArmEnv
from deploy.operator.station import Station, keys, signals, socket_at
from deploy.operator.terminal import HearFn, listening
from deploy.teleop.view import Viewed
from robot_rl.envs import Env, make_env
from robot_rl.errors import ConfigError


def open_place(
    env_id: str,
    arm: str,
    *,
    station: Station,
    episode_steps: int | None = None,
    paced: bool = False,
    view: bool = False,
) -> tuple[Env, ArmEnv | None]:
    """The environment to step; the second is the same where it is an arm.

    Args:
        env_id: Gymnasium id; with `arm` that of a simulated one, empty for the one in its file.
        arm: Name in `hardware_configs`, or a file; empty for none.
        station: The operator's.
        episode_steps: Time limit; None for the environment's own.
        paced: Let a simulated arm keep its control rate.
        view: Show the environment in a window.

    Raises:
        ConfigError: If neither is named, or there is nothing to view.
        ArmError, EnvError: If it cannot be opened.
    """
    if arm:
        if view:
            raise ConfigError(f"--view shows an environment, and --arm {arm} has no picture: leave one of them out.")
        found = ArmEnv(load_arm(arm), env_id=env_id, episode_steps=episode_steps, paced=paced, station=station)
        return found, found
    if not env_id:
        raise ConfigError("Say where to act: an environment's id or --arm NAME.")
    options: dict[str, Any] = {} if episode_steps is None else {"max_episode_steps": episode_steps}
    return (Viewed(make_env(env_id, render_mode="rgb_array", **options)) if view else make_env(env_id, **options)), None


def require_arm(socket: Path | None, arm: str) -> None:
    """Refuse an operator's socket where there is no arm to stop.

    Raises:
        ConfigError: Naming the options as a user types them.
    """
    if socket is not None and not arm:
        raise ConfigError(f"--socket {socket} is the operator's of an arm; give --arm NAME as well.")


@contextmanager
def spoken_to(
    station: Station, *, arm: bool, socket: Path | None = None, hear: HearFn | None = None
) -> Generator[None]:
    """While open: the operator's keys, signals and socket where there is an arm to stop; keys also to `hear`."""
    if arm:
        with socket_at(station, socket), keys(station, hear or _nobody), signals(station):
            yield
    elif hear is not None:
        with listening(hear, gone=station.ending.set):
            yield
    else:
        yield


def _nobody(_key: str) -> None:
    """Hears nothing."""
