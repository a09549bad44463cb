"""Gathering transitions in an environment by an exploring policy. Needs no torch: actors import it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from robot_rl.data.reward import RewardFn
from robot_rl.data.transition import Rows, Success, transition_dtype
from robot_rl.envs import Env
from robot_rl.errors import ConfigError
from robot_rl.memory import begin_episode, executed
from robot_rl.spec import Array, Spec

ExploreFn = Callable[[Array, Array], Array]
"""Raw observation (S,) and standard normal noise (A,) -> executable action (A,)."""


@dataclass(frozen=True, kw_only=True)
class Finished:
    """An episode that ended.

    Args:
        number: 0 for the first of the run.
        return_: Undiscounted sum of the rewards that are learned from.
        length: Control steps.
        success: Whether the task was achieved; None where the environment does not say.
    """

    number: int
    return_: float
    length: int
    success: bool | None


class Collector:
    """Steps one environment, an episode after the other.

    Episode i is reset with `seed + i` and draws its noise from a generator of its own, so what happens
    in it depends on nothing but the policy: a run can be taken up again at any episode's start.

    Args:
        env: Environment; closing it is the caller's.
        spec: Its spec.
        seed: Of episode 0.
        reward: Replaces the environment's reward; None keeps that.
        episode: Number of the episode to begin with.
        noise_memory: Correlation of the exploration noise from one step to the next, in [0, 1). Independent noise
            averages out in the arm where the control rate is high; noise that drifts does not (as the
            Ornstein-Uhlenbeck noise of Lillicrap et al. 2016, arXiv 1509.02971). Its variance stays the same.
        untrained: Whether weights of version 0 were never trained: actions are drawn uniformly instead of asking them.

    Raises:
        ConfigError: If `noise_memory` is outside its range.
    """

    def __init__(
        self,
        env: Env,
        spec: Spec,
        *,
        seed: int,
        reward: RewardFn | None = None,
        episode: int = 0,
        noise_memory: float = 0.0,
        untrained: bool = False,
    ) -> None:
        if not 0.0 <= noise_memory < 1.0:
            raise ConfigError(f"--noise-memory is {noise_memory:g}; it must lie in [0, 1).")
        self.episode = episode
        self._env = env
        self._seed = seed
        self._reward = reward
        self._actions = spec.action_dim
        self._uniform = uniform(spec) if untrained else None
        self._memory, self._fresh_share = noise_memory, math.sqrt(1.0 - noise_memory**2)
        self._noise = np.zeros(spec.action_dim, np.float32)
        self._row: Rows = np.zeros(1, transition_dtype(spec.obs_dim, spec.action_dim))
        self._rng = np.random.default_rng()
        self._obs: Array | None = None
        self._resumed: Callable[[], Array | None] | None = (  # of an arm
            env.get_wrapper_attr("resumed") if env.has_wrapper_attr("resumed") else None
        )
        self._return, self._length = 0.0, 0

    @property
    def between_episodes(self) -> bool:
        """Whether the next step begins an episode."""
        return self._obs is None

    def step(self, explore: ExploreFn, version: int) -> tuple[Rows, Finished | None]:
        """One control step.

        Args:
            explore: The policy with its exploration noise.
            version: Of its weights, noted with the transition.

        Returns:
            The transition, (1,) of `transition_dtype`, a buffer that the next call overwrites; and the episode if
            it ended here.
        """
        obs = self._begin() if self._obs is None else self._goes_on(self._obs)
        fresh = self._rng.standard_normal(self._actions, dtype=np.float32)
        starts = self._length == 0
        if starts:
            begin_episode(explore)
        self._noise = fresh if starts or not self._memory else self._memory * self._noise + self._fresh_share * fresh
        asked = explore if self._uniform is None or version > 0 else self._uniform
        action = asked(obs, self._noise)
        after, reward, terminated, truncated, info = self._env.step(action)
        after = np.asarray(after, np.float32)
        if self._reward is not None:
            reward = self._reward(after[None])[0]
        row = self._row[0]
        taken = info.get("executed_action", action)  # a safety supervisor or a person may have changed it
        executed(explore, taken)
        row["obs"], row["action"], row["reward"], row["next_obs"] = obs, taken, reward, after
        row["starts"], row["intervention"] = starts, info.get("intervention", False)
        row["policy_version"], row["terminated"], row["truncated"] = version, terminated, truncated and not terminated
        row["success"] = Success(info["is_success"]) if "is_success" in info else Success.UNKNOWN
        self._return += float(reward)
        self._length += 1
        self._obs = after
        ended = terminated or truncated
        return self._row, self._finish(bool(info["is_success"]) if "is_success" in info else None) if ended else None

    def leave(self) -> None:
        """Break the running episode off; the next step begins the one numbered `episode`."""
        self._obs = None

    def _goes_on(self, obs: Array) -> Array:
        """What to act on within an episode: after a pause, what is seen now instead of before it."""
        now = None if self._resumed is None else self._resumed()
        return obs if now is None else np.asarray(now, np.float32)

    def _begin(self) -> Array:
        obs, _ = self._env.reset(seed=self._seed + self.episode)
        self._rng = np.random.default_rng([self._seed, self.episode])
        self._return, self._length = 0.0, 0
        return np.asarray(obs, np.float32)

    def _finish(self, success: bool | None) -> Finished:
        ended = Finished(number=self.episode, return_=self._return, length=self._length, success=success)
        self.episode += 1
        self._obs = None
        return ended


def uniform(spec: Spec) -> ExploreFn:
    """Actions drawn uniformly between their bounds, by the same standard normal noise that a policy would get."""
    low, high = spec.action_low, spec.action_high
    discrete = spec.control == "discrete"

    def draw(_: Array, noise: Array) -> Array:
        share = np.array([0.5 * math.erfc(-x / math.sqrt(2.0)) for x in noise.tolist()])  # uniform in [0, 1]
        if discrete:
            return np.minimum(np.floor(low + share * (high - low + 1)), high).astype(np.float32)
        return (low + share * (high - low)).astype(np.float32)

    return draw
