"""Which reward is learned from: the one that was logged, or one that the observations themselves show.

Logged rewards often follow another rule than the environment's of today: the Adroit pen demonstrations
count a step as good by a stricter rule than upstream's success, and 8 of 20 successful ones are never
rewarded. Where the goal can be seen in an observation, offline and online data get the same reward from
the same function: "goal" is 0 where it is met and -1 elsewhere, "progress" climbs from -1 to 0 on the way.
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

RewardRule = Literal["logged", "goal", "progress"]
RewardFn = Callable[[Array], Array]


def reward_fn(rule: RewardRule, env: Env | None) -> RewardFn | None:
    """Reward of arriving in observations, (T, S) -> (T,); None for the logged (and the environment's own) one.

    Raises:
        ConfigError: If there is no environment, or its goal can't be seen in an observation.
    """
    if rule == "logged":
        return None
    if env is None:
        raise ConfigError(f"--reward {rule} needs the environment whose goal it is: name it with --env.")
    if not env.has_wrapper_attr("goal_reached"):
        name = env.spec.id if env.spec else type(env).__name__
        raise ConfigError(
            f"--reward {rule} needs an environment that tells from an observation how near its goal is; '{name}' does "
            f"not. Use --reward logged."
        )
    seen = env.get_wrapper_attr("goal_reached" if rule == "goal" else "goal_progress")
    return lambda obs: seen(obs).astype(np.float32) - 1.0


def relabel(episodes: Iterable[Episode], reward: RewardFn) -> Iterator[Episode]:
    """The same episodes with the reward of each step taken from the observation it led to."""
    for episode in episodes:
        yield replace(episode, rewards=reward(episode.observations[1:]))
