"""Rolling a policy out: returns and success with intervals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from robot_rl.checkpoint import TrainedPolicy
from robot_rl.envs import Env, env_spec, make_env
from robot_rl.errors import ConfigError
from robot_rl.memory import begin_episode, executed
from robot_rl.nets.recurrent import RecurrentBehaviour, RecurrentPolicy
from robot_rl.spec import Array

ActFn = Callable[[Array], Array]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Outcome of a set of episodes.

    Args:
        returns: Undiscounted return of each episode.
        lengths: Steps of each episode.
        successes: Whether each episode succeeded; None where the environment does not say.
        seed: Seed of the first episode; the i-th used `seed + i`.
    """

    returns: tuple[float, ...]
    lengths: tuple[int, ...]
    successes: tuple[bool, ...] | None
    seed: int

    @property
    def mean_return(self) -> float:
        """Mean over episodes."""
        return float(np.mean(self.returns))

    @property
    def return_interval(self) -> tuple[float, float]:
        """95 % bootstrap interval of the mean return."""
        return bootstrap_interval(np.asarray(self.returns))

    @property
    def success_rate(self) -> float | None:
        """Share of successful episodes."""
        return None if self.successes is None else float(np.mean(self.successes))

    @property
    def success_interval(self) -> tuple[float, float] | None:
        """95 % Wilson interval of the success rate."""
        return None if self.successes is None else wilson_interval(sum(self.successes), len(self.successes))

    def scalars(self) -> dict[str, float]:
        """Named figures for logs and plots."""
        low, high = self.return_interval
        found = {"eval/return": self.mean_return, "eval/return_low": low, "eval/return_high": high}
        if self.successes is not None and self.success_rate is not None:
            low, high = wilson_interval(sum(self.successes), len(self.successes))
            found |= {"eval/success": self.success_rate, "eval/success_low": low, "eval/success_high": high}
        return found | {"eval/length": float(np.mean(self.lengths))}


def wilson_interval(hits: int, trials: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson score interval of a proportion (Wilson 1927); 95 % by default."""
    p, n = hits / trials, trials
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def bootstrap_interval(values: np.ndarray[Any, Any], draws: int = 2000) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the mean, with a fixed seed."""
    rng = np.random.default_rng(0)
    means = rng.choice(values, (draws, len(values))).mean(1)
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


def rollout(
    env: Env, act: ActFn, *, episodes: int, seed: int, on_episode: Callable[[], None] | None = None
) -> Evaluation:
    """Run `episodes` episodes of `act` in `env`, the i-th reset with `seed + i`.

    Args:
        env: Environment; success is its `info["is_success"]` at the end of an episode.
        act: Raw observation (S,) -> executable action (A,); told where episodes begin if it remembers.
        episodes: How many.
        seed: Of the first reset.
        on_episode: Called after each, for progress bars.
    """
    returns: list[float] = []
    lengths: list[int] = []
    successes: list[bool] = []
    for index in range(episodes):
        obs, info = env.reset(seed=seed + index)
        begin_episode(act)
        total, steps, done = 0.0, 0, False
        while not done:
            obs, reward, terminated, truncated, info = env.step(act(np.asarray(obs, np.float32)))
            if "executed_action" in info:
                executed(act, info["executed_action"])
            total, steps, done = total + float(reward), steps + 1, terminated or truncated
        returns.append(total)
        lengths.append(steps)
        if "is_success" in info:
            successes.append(bool(info["is_success"]))
        if on_episode is not None:
            on_episode()
    return Evaluation(
        returns=tuple(returns),
        lengths=tuple(lengths),
        successes=tuple(successes) if len(successes) == episodes else None,
        seed=seed,
    )


def act_with(module: torch.nn.Module, device: str = "cpu") -> ActFn:
    """Turn a policy module into a function on numpy vectors; a recurrent one keeps its memory in it."""
    if isinstance(module, RecurrentPolicy):
        return RecurrentAct(module, device)

    @torch.inference_mode()
    def act(obs: Array) -> Array:
        action = module(torch.from_numpy(obs)[None].to(device))
        return action[0].cpu().numpy()

    return act


class RecurrentAct:
    """A recurrent policy and its memory: a function on numpy vectors that remembers.

    Args:
        module: The policy, deterministic or exploring.
        device: Where it lives.
    """

    def __init__(self, module: RecurrentPolicy | RecurrentBehaviour, device: str = "cpu") -> None:
        self._module = module
        self._state = torch.zeros(1, module.state_dim, device=device)

    def begin_episode(self) -> None:
        """Forget."""
        self._state = torch.zeros_like(self._state)

    @torch.inference_mode()
    def executed(self, action: Array) -> None:
        """Remember `action`, (A,), as the last one."""
        self._state[:, -len(action) :] = torch.from_numpy(np.asarray(action, np.float32))

    @torch.inference_mode()
    def __call__(self, obs: Array, *noise: Array) -> Array:
        """Executable action, (A,), for a raw observation, (S,), and for an exploring policy its noise, (A,)."""
        rows = [torch.from_numpy(vector)[None].to(self._state.device) for vector in noise]
        action, self._state = self._module(torch.from_numpy(obs)[None].to(self._state.device), self._state, *rows)
        return action[0].cpu().numpy()


def open_env(env_id: str, policy: TrainedPolicy, episode_steps: int | None) -> Env:
    """The environment to evaluate `policy` in, refused unless it fits the policy's spec.

    Args:
        env_id: Gymnasium id; empty for the one the policy's data came from.
        policy: Whose spec must match.
        episode_steps: Time limit in steps; None for the environment's own.

    Raises:
        ConfigError: If no environment is known.
        SpecMismatch: If it does not fit.
    """
    name = env_id or policy.spec.env_id
    if not name:
        raise ConfigError("The policy's data names no environment. Say which with --env ID.")
    env = make_env(name, **({} if episode_steps is None else {"max_episode_steps": episode_steps}))
    policy.spec.require_match(
        env_spec(env), "the policy", name, "Evaluate in the environment it was trained for, or retrain."
    )
    return env
