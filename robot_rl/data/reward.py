"""Which reward is learned from: the one that was logged, or one that the observations themselves show.

Logged rewards often follow another rule than the environment's of today: the Adroit pen demonstrations
count a step as good by a stricter rule than upstream's success, and 8 of 20 successful ones are never
rewarded. Where the goal can be seen in an observation, offline and online data get the same reward from
the same function: "goal" is 0 where it is met and -1 elsewhere, "progress" climbs from -1 to 0 on the way. Where it
cannot, a classifier learned from labelled episodes may tell: "classifier:RUN" is 0 where success is likely.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from robot_rl.data.episode import Episode
from robot_rl.data.success_net import load_success_net
from robot_rl.envs import Env, env_spec
from robot_rl.errors import ConfigError
from robot_rl.spec import Array, Spec

RewardRule = str
"""One of `RULES`, or `classifier:RUN` with a run of `robot-rl success-classifier`."""
RULES = ("logged", "goal", "progress")
CLASSIFIER = "classifier:"
RewardFn = Callable[[Array], Array]


def require_rule(rule: RewardRule) -> None:
    """Refuse a rule that there is not.

    Raises:
        ConfigError: Naming those there are.
    """
    if rule not in RULES and not rule.startswith(CLASSIFIER):
        raise ConfigError(f"--reward is '{rule}'; there are {', '.join(RULES)} and {CLASSIFIER}RUN.")


def reward_fn(rule: RewardRule, env: Env | None, spec: Spec | None = None) -> RewardFn | None:
    """Reward of arriving in observations, (T, S) -> (T,); None for the logged (and the environment's own) one.

    Args:
        rule: Which.
        env: Whose goal it is; a classifier needs none.
        spec: Of the observations; None for the environment's.

    Raises:
        ConfigError: If there is no such rule, or no environment, or its goal can't be seen in an observation.
        DataError: If there is no classifier.
        SpecMismatch: If the classifier is for another robot.
    """
    require_rule(rule)
    if rule == "logged":
        return None
    if rule.startswith(CLASSIFIER):
        return _classified(Path(rule.removeprefix(CLASSIFIER)), spec or (None if env is None else env_spec(env)))
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


def _classified(run: Path, spec: Spec | None) -> RewardFn:
    if spec is None:
        raise ConfigError(f"--reward {CLASSIFIER}{run} needs to know the robot: name the environment with --env.")
    net = load_success_net(run, spec)
    return lambda obs: (net.probability(obs) >= 0.5).astype(np.float32) - 1.0


def constant(value: float) -> RewardFn:
    """The same for every step, for logs of other tasks: with the lowest reward there is they show what the world does.

    UDS: Yu et al. 2022, arXiv 2202.01741.
    """
    return lambda obs: np.full(len(obs), value, np.float32)


def relabel(episodes: Iterable[Episode], reward: RewardFn) -> Iterator[Episode]:
    """The same episodes with the reward of each step taken from the observation it led to."""
    for episode in episodes:
        yield replace(episode, rewards=reward(episode.observations[1:]))
