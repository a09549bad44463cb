"""A made-up robot whose dynamics are known: s' = s + 0.3 tanh(B a) - 0.1 s^3, ends where |s_0| > 0.9."""

import numpy as np

from robot_rl.data.episode import Episode
from robot_rl.spec import Entry, Spec, vector

MIX = np.array([[1.0, 0.0], [0.5, -1.0], [0.0, 2.0]])


def drifting_spec() -> Spec:
    action = Entry("push", ("x", "y"), "N", (-2.0, -2.0), (2.0, 2.0))
    return Spec((vector("place", 3),), (action,), rate_hz=10.0)


def step(obs: np.ndarray, action: np.ndarray) -> np.ndarray:
    return obs + 0.3 * np.tanh(action @ MIX.T) - 0.1 * obs**3


def drifting_episodes(count: int = 12, steps: int = 40, seed: int = 0) -> list[Episode]:
    rng = np.random.default_rng(seed)
    episodes: list[Episode] = []
    for index in range(count):
        obs, actions = [rng.normal(0, 0.4, 3)], []
        terminated = False
        while len(actions) < steps and not terminated:
            actions.append(rng.uniform(-2, 2, 2))
            obs.append(step(obs[-1], actions[-1]))
            terminated = bool(abs(obs[-1][0]) > 0.9)
        after = np.stack(obs)[1:]
        episodes.append(
            Episode(
                observations=np.stack(obs),
                actions=np.stack(actions),
                rewards=after[:, 0] - 0.1 * np.square(np.stack(actions)).sum(1),
                terminated=terminated,
                truncated=not terminated,
                source=f"drifting:{index}",
            )
        )
    return episodes
