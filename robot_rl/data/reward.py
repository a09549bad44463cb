"""Which reward is learned from: the one that was logged, or -1 until the goal is met.

Logged rewards often follow another rule than the environment's of today: the Adroit pen demonstrations
count a step as good by a stricter rule than upstream's success, and 8 of 20 successful ones are never
rewarded. Where the goal can be seen in an observation, offline and online data get the same reward from
the same function.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Literal

import numpy as np

from robot_rl.data.episode import Episode
from robot_rl.envs import Env
from robot_rl.errors import ConfigError
from robot_rl.spec import Array

RewardRule = Literal["logged", "goal"]
RewardFn = Callable[[Array], Array]


def goal_reward(env: Env) -> RewardFn:
    """Reward of arriving in observations (T, S): 0 where the goal is met, else -1, (T,).

    Raises:
        ConfigError: If the environment's goal can't be seen in an observation.
    """
    if not env.has_wrapper_attr("goal_reached"):
        name = env.spec.id if env.spec else type(env).__name__
        raise ConfigError(
            f"--reward goal needs an environment that tells from an observation whether its goal is met; '{name}' "
            f"does not. Use --reward logged."
        )
    reached = env.get_wrapper_attr("goal_reached")
    return lambda obs: reached(obs).astype(np.float32) - 1.0


def relabel(episodes: Iterable[Episode], reward: RewardFn) -> Iterator[Episode]:
    """The same episodes with the reward of each step taken from the observation it led to."""
    for episode in episodes:
        yield replace(episode, rewards=reward(episode.observations[1:]))
