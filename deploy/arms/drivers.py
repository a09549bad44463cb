"""Drivers by name: entry points in the group `robot_rl.arms`, so that other packages can bring theirs.

Each names a class with a struct `Options` (what may stand under `options:` in the arm's file) and a
classmethod `make`. Vendor packages are imported in `connect`, so that looking at a config needs none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self

import msgspec

from deploy.arms.arm import Arm
from deploy.arms.schema import ArmConfig
from robot_rl.config import nearest
from robot_rl.errors import ConfigError
from robot_rl.registered import load, registered

GROUP = "robot_rl.arms"


class DriverOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a driver may be told in the arm's file; this one takes nothing."""

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Self:
        """Typed options.

        Raises:
            msgspec.ValidationError: On an unknown key or a wrong type.
        """
        return msgspec.convert(raw, cls)


@dataclass(frozen=True, kw_only=True)
class SimOptions:
    """What the command line may say about a simulated arm; physical ones have no use for it.

    Args:
        env_id: Environment instead of the config's.
        seed: Of the first episode.
        episode_steps: Time limit of episodes, policy steps; None for the environment's own.
    """

    env_id: str = ""
    seed: int = 0
    episode_steps: int | None = None


class Driver(Protocol):
    """What an entry point in `robot_rl.arms` names."""

    Options: type[DriverOptions]

    def make(self, config: ArmConfig, sim: SimOptions) -> Arm:
        """The arm, not yet connected."""
        ...


def find_driver(name: str) -> Driver:
    """The driver called `name`.

    Raises:
        ConfigError: If none is installed; the nearest name is given.
    """
    known = registered(GROUP)
    if name not in known:
        raise ConfigError(f"driver is '{name}'.{nearest(name, known)}")
    return load(known[name])
