"""Small made-up data for the tests of the learning side."""

import numpy as np

from robot_rl.data.episode import Episode
from robot_rl.spec import Entry, Spec, vector


def make_spec(obs_dim: int = 5, action_dim: int = 2) -> Spec:
    names = tuple(str(i) for i in range(action_dim))
    action = Entry("action", names, "rad", (-2.0,) * action_dim, (4.0,) * action_dim)
    return Spec((vector("observation", obs_dim),), (action,), rate_hz=20.0)


def make_episodes(count: int = 6, steps: int = 30, seed: int = 0, obs_dim: int = 5) -> list[Episode]:
    rng = np.random.default_rng(seed)
    episodes: list[Episode] = []
    for index in range(count):
        ended = index % 2 == 0
        episodes.append(
            Episode(
                observations=rng.normal(3.0, 2.0, (steps + 1, obs_dim)),
                actions=rng.uniform(-2.0, 4.0, (steps, 2)),
                rewards=rng.normal(size=steps),
                terminated=ended,
                truncated=not ended,
                success=ended,
                source=f"made:{index}",
            )
        )
    return episodes
