"""A pilot who may take over from the policy: a person at a device, or an expert who stands in for one.

HIL-SERL (Luo et al. 2024, arXiv 2410.21845): while the person commands, their action is executed in place of the
policy's, and such steps are learned from on both sides of the batch, as demonstrations and as the run's own data.
Needs no torch: actors import it.
"""

from __future__ import annotations

from typing import Any, Protocol

import gymnasium as gym
import numpy as np

from robot_rl.envs import Env
from robot_rl.errors import ConfigError
from robot_rl.experts import Expert
from robot_rl.spec import Array

TAKEOVERS = 7  # separates their generator from those of scene and exploration, which share the seed


class Pilot(Protocol):
    """Whoever may command instead of the policy."""

    def begin(self, obs: Array, seed: int) -> None:
        """An episode begins with `obs`, (S,); `seed` is what it was reset with."""
        ...

    def command(self, obs: Array, asked: Array) -> Array | None:
        """Action, (A,), to execute in place of `asked`, the policy's; None leaves this step to the policy."""
        ...


class Intervened(gym.Wrapper[Any, Any, Any, Any]):
    """An environment in which a pilot may take over; `info["intervention"]` tells where, for `Collector`.

    Args:
        env: Environment.
        pilot: Asked at every step.
    """

    def __init__(self, env: Env, pilot: Pilot) -> None:
        super().__init__(env)
        self._pilot = pilot
        self._obs = np.zeros(0, np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode, with the pilot in the picture."""
        self._obs, info = self.env.reset(seed=seed, options=options)
        self._pilot.begin(self._obs, seed or 0)
        return self._obs, info

    def step(self, action: Array) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Execute the pilot's action where there is one, else `action`."""
        own = self._pilot.command(self._obs, action)
        self._obs, reward, terminated, truncated, info = self.env.step(action if own is None else own)
        if own is not None:
            info = {"executed_action": own} | info | {"intervention": True}  # a supervisor's word on it comes first
        return self._obs, reward, terminated, truncated, info


class ScriptedPilot:
    """An expert who takes over at random for some steps at a time: a person's stand-in for benchmarks.

    At every step of a run the chance to find the expert in command is the wanted share, from the first step of
    an episode on: takeovers of `steps` steps begin with probability s / (s + steps (1 - s)), and an episode begins
    as if the takeovers had gone on before it. The share s falls linearly to 0 over `until` interactions.

    Args:
        expert: Watches every step, so that its phases follow what the policy does.
        share: Of the steps, in [0, 1].
        until: Interactions over which the share falls to 0; 0 keeps it.
        steps: Length of a takeover, at least 1.

    Raises:
        ConfigError: If a number is outside its range.
    """

    def __init__(self, expert: Expert, *, share: float, until: int = 0, steps: int = 20) -> None:
        require_takeovers(share, until, steps)
        self.interactions = 0  # of the run so far; to be set where it is taken up again
        self._expert, self._share, self._until, self._steps = expert, share, until, steps
        self._rng = np.random.default_rng(0)
        self._left = 0  # steps of the running takeover

    def begin(self, obs: Array, seed: int) -> None:
        """All chance of the episode is drawn from its seed."""
        del obs
        self._rng, of_expert = np.random.default_rng([seed, TAKEOVERS]).spawn(2)
        self._expert.reset(of_expert)
        self._left = int(self._rng.integers(self._steps)) if self._rng.random() < self.share else 0

    def command(self, obs: Array, asked: Array) -> Array | None:
        """The expert's action during a takeover."""
        del asked
        action = self._expert.act(obs)
        share = self.share
        self.interactions += 1
        if self._left:
            self._left -= 1
            return action
        if self._rng.random() < share / (share + self._steps * (1.0 - share)):
            self._left = self._steps - 1
            return action
        return None

    @property
    def share(self) -> float:
        """The wanted share of the steps, now."""
        left = 1.0 - self.interactions / self._until if self._until else 1.0
        return self._share * max(0.0, left)


def require_takeovers(share: float, until: int, steps: int) -> None:
    """Refuse what cannot be.

    Raises:
        ConfigError: Naming the options as a user types them.
    """
    if not 0.0 <= share <= 1.0:
        raise ConfigError(f"--intervene-share is {share:g}; it must lie in [0, 1].")
    if until < 0 or steps < 1:
        raise ConfigError(f"--intervene-until is {until} and --intervene-steps {steps}; they must be at least 0 and 1.")
