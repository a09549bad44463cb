"""Episodes of a scripted expert at work."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from robot_rl.data.episode import Episode
from robot_rl.envs import Env
from robot_rl.errors import EnvError
from robot_rl.experts import Expert
from robot_rl.spec import Spec


def demonstrate(env: Env, spec: Spec, expert: Expert, *, seed: int, after_success: int = 5) -> Episode:
    """One attempt; it ends with the environment or a few steps after success.

    Args:
        env: Where to act; its time limit ends the attempt.
        spec: What the environment's numbers mean.
        expert: Who acts.
        seed: Fixes the attempt: the scene and the expert's noise.
        after_success: Control steps to go on after success, so that the end of the task is shown too.

    Returns:
        The attempt with time stamps and success label. It is `terminated` only where the task itself is.
    """
    obs, info = env.reset(seed=seed)
    expert.reset(np.random.default_rng(seed))
    observations, actions, rewards = [obs], [], []
    terminated = truncated = False
    left = after_success
    while not (terminated or truncated):
        if info["is_success"]:
            if left == 0:
                break
            left -= 1
        action = expert.act(obs)
        obs, reward, terminated, truncated, info = env.step(action)
        observations.append(obs)
        actions.append(action)
        rewards.append(reward)
    return Episode(
        observations=np.asarray(observations),
        actions=np.asarray(actions),
        rewards=np.asarray(rewards),
        terminated=terminated,
        truncated=not terminated,
        success=bool(info["is_success"]),
        timestamps=np.arange(len(observations)) / spec.rate_hz,
        source=f"{spec.env_id}:expert:seed={seed}",
    )


def demonstrations(
    attempt: Callable[[int], Episode],
    *,
    episodes: int,
    seed: int,
    only_successes: bool,
    done: Callable[[Episode, bool], None],
) -> Iterator[Episode]:
    """Attempts with seeds `seed`, `seed + 1`, ... until enough are kept.

    Args:
        attempt: Makes the episode of a seed.
        episodes: How many to keep.
        seed: Of the first attempt.
        only_successes: Leave failures out.
        done: Told of every attempt and whether it is kept.

    Yields:
        The episodes kept.

    Raises:
        EnvError: If the expert keeps failing: fewer than one success in ten attempts.
    """
    kept = tried = 0
    while kept < episodes:
        if tried >= 10 * (kept + 2):
            raise EnvError(
                f"The expert succeeded {kept} times in {tried} attempts. Lower --noise, raise "
                f"--episode-steps or leave --only-successes out."
            )
        episode = attempt(seed + tried)
        tried += 1
        keep = bool(episode.success) or not only_successes
        done(episode, keep)
        if keep:
            kept += 1
            yield episode
