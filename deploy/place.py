"""Where a command acts: an environment by its id, or an arm behind its supervisor; and who may speak there."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from deploy.arm_env import ArmEnv
from deploy.arms.config import load_arm
from deploy.station import Station, keys, signals, socket_at
from deploy.terminal import HearFn, listening
from robot_rl.envs import Env, make_env
from robot_rl.errors import ConfigError


def open_place(
    env_id: str, arm: str, *, station: Station, episode_steps: int | None = None, paced: bool = False
) -> tuple[Env, ArmEnv | None]:
    """The environment to step; the second is the same where it is an arm.

    Args:
        env_id: Gymnasium id; with `arm` that of a simulated one, empty for the one in its file.
        arm: Name in `hardware_configs`, or a file; empty for none.
        station: The operator's.
        episode_steps: Time limit; None for the environment's own.
        paced: Let a simulated arm keep its control rate.

    Raises:
        ConfigError: If neither is named.
        ArmError, EnvError: If it cannot be opened.
    """
    if arm:
        found = ArmEnv(load_arm(arm), env_id=env_id, episode_steps=episode_steps, paced=paced, station=station)
        return found, found
    if not env_id:
        raise ConfigError("Say where to act: an environment's id or --arm NAME.")
    limit = {} if episode_steps is None else {"max_episode_steps": episode_steps}
    return make_env(env_id, **limit), None


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
