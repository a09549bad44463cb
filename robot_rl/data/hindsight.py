"""Episodes once more, as if what they reached had been the goal: hindsight experience replay.

Andrychowicz et al. 2017 (arXiv 1707.01495), their strategy "final": the goal of the copy is what the episode's last
observation shows. An episode that ends elsewhere than it should so becomes an example of how to get to where it ended,
which is what a policy that misses its goals narrowly lacks.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from robot_rl.data.replay import Replay
from robot_rl.data.reward import RewardFn
from robot_rl.data.transition import Rows
from robot_rl.envs import Env
from robot_rl.errors import ConfigError
from robot_rl.spec import Array, Spec

GoalFn = Callable[[Array, Array], Array]
"""Observations (T, S) and the one that shows the goal met, (S,) -> the same observations with that goal, (T, S)."""


def goal_fn(env: Env | None) -> GoalFn:
    """How to put another goal into an environment's observations.

    Raises:
        ConfigError: If it can't be done.
    """
    if env is not None and env.has_wrapper_attr("with_goal_reached"):
        change: GoalFn = env.get_wrapper_attr("with_goal_reached")
        return change
    name = "no environment" if env is None else repr(env.spec.id if env.spec else type(env).__name__)
    raise ConfigError(
        f"--hindsight needs an environment whose goal varies and is seen in an observation, such as VirtualArm-v1; "
        f"there is {name}. Leave it at 0."
    )


class Hindsight:
    """Transitions of ended episodes with the goal that they reached, in a replay.

    Episodes may arrive interleaved and in pieces: a transition continues the one whose next observation it begins
    with. Left out are episodes whose beginning was not seen, and those that meet no goal at their end, such as one
    that ends with the object dropped.

    Args:
        spec: Gives the widths.
        capacity: Most transitions kept; the oldest leave first.
        device: Where they live.
        with_goal: Puts another goal into observations.
        reward: Of arriving in observations, at most 0, and 0 where the goal is met.
    """

    def __init__(self, spec: Spec, capacity: int, device: str, with_goal: GoalFn, reward: RewardFn) -> None:
        self.replay = Replay(spec, capacity, device)
        self._with_goal, self._reward = with_goal, reward
        self._running: dict[bytes, list[np.void]] = {}  # by the observation that goes on

    def take(self, rows: Rows) -> None:
        """Add transitions in the order in which each actor took them, (N,)."""
        for row in rows.copy():  # the caller's buffer may be used again
            before = [] if row["starts"] else self._running.pop(row["obs"].tobytes(), None)
            if before is None:
                continue
            before.append(row)
            if row["terminated"] or row["truncated"]:
                self._add(np.array(before, rows.dtype))
            else:
                self._running[row["next_obs"].tobytes()] = before

    def _add(self, episode: Rows) -> None:
        reached = episode["next_obs"][-1].copy()
        for name in ("obs", "next_obs"):
            episode[name] = self._with_goal(episode[name], reached)
        episode["reward"] = self._reward(episode["next_obs"])
        if episode["reward"][-1] == 0:
            self.replay.extend(episode)
