"""Logs of two source tasks."""

from pathlib import Path

import numpy as np
import pytest

from robot_rl.data.dataset import write_dataset
from robot_rl.data.episode import Episode
from robot_rl.envs import env_spec, make_env

ENV = "Pendulum-v1"


def write_sources(folder: Path, env_id: str, steps: int) -> tuple[Path, ...]:
    """Random actions in two tasks; the second pays for the opposite."""
    env = make_env(env_id, max_episode_steps=steps)
    spec, rng = env_spec(env), np.random.default_rng(0)
    found = []
    for name, sign in (("up", 1.0), ("down", -1.0)):
        episodes = []
        for seed in range(4):
            obs, actions, rewards = [env.reset(seed=seed)[0]], [], []
            for _ in range(steps):
                action = rng.uniform(spec.action_low, spec.action_high).astype(np.float32)
                after, reward, *_ = env.step(action)
                obs.append(after)
                actions.append(action)
                rewards.append(sign * reward)
            episodes.append(Episode(observations=np.stack(obs), actions=np.stack(actions), rewards=np.array(rewards)))
        found.append(write_dataset(folder / name, spec, episodes, origin=name).path)
    return tuple(found)


@pytest.fixture(scope="session")
def sources(tmp_path_factory) -> tuple[Path, ...]:
    """Logs of two pendulums."""
    return write_sources(tmp_path_factory.mktemp("sources"), ENV, steps=20)
