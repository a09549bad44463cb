"""The online phase of a learner: when to update, on what, with which parts still frozen.

Both ways to fine-tune share it: `robot_rl.finetune`, where environment and learner take turns in one
process, and the bridge's learner, which is fed by actors.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from robot_rl.algorithms.agent import Agent, Metrics
from robot_rl.data.replay import Mixture, Replay, TransitionSource
from robot_rl.data.transition import Rows
from robot_rl.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class OnlineConfig:
    """Schedule of the online phase. Interactions count every control step, warm-up included."""

    warmup: int = 1_000  # interactions with the policy as it came, before the first update
    critic_warmup: int = 0  # updates of the critics alone that follow the warm-up
    utd: float = 1.0  # updates per interaction (update-to-data ratio)
    offline_share: float = 0.5  # of each batch from the logged data, in [0, 1]; 0 drops them
    capacity: int = 1_000_000  # online transitions kept for training; the oldest leave first
    bc_decay: int = 0  # interactions over which the cloning weight falls to 0; 0 keeps it

    def __post_init__(self) -> None:
        for name in ("warmup", "critic_warmup", "bc_decay"):
            if getattr(self, name) < 0:
                raise ConfigError(f"--{name.replace('_', '-')} is {getattr(self, name)}; it must be 0 or more.")
        if self.utd <= 0:
            raise ConfigError(f"--utd is {self.utd:g}; it must be above 0.")
        if not 0 <= self.offline_share <= 1:
            raise ConfigError(f"--offline-share is {self.offline_share:g}; it must lie in [0, 1].")


class OnlineLearner:
    """An agent that learns from logged and incoming transitions.

    Args:
        agent: The learner; pretrained or new.
        offline: Logged data; None without any.
        config: The schedule.
        seed: Of the batches.

    Raises:
        ConfigError: If the cloning weight is to decay, but the learner has none.
    """

    def __init__(self, agent: Agent, offline: TransitionSource | None, config: OnlineConfig, seed: int) -> None:
        self.agent = agent
        self.config = config
        self.interactions = 0
        self.online = Replay(agent.spec, config.capacity, str(agent.device))
        self._source = self.online if offline is None else Mixture(offline, self.online, config.offline_share)
        self._sampler = torch.Generator(agent.device).manual_seed(seed)
        self._first_update = agent.updates
        self._agent_config = agent.cfg
        if config.bc_decay and not hasattr(self._agent_config, "bc_weight"):
            raise ConfigError(
                f"--bc-decay is {config.bc_decay}, but {type(agent).__name__} has no cloning weight; leave it at 0."
            )

    def take(self, rows: Rows) -> None:
        """Add transitions that an actor took, (N,)."""
        self.online.extend(rows)
        self.interactions += len(rows)

    @property
    def owed(self) -> int:
        """Updates that the schedule asks for and that were not made yet."""
        config = self.config
        past = self.interactions - config.warmup
        if past < 0 or self.interactions == 0:
            return 0
        return config.critic_warmup + int(past * config.utd) - self.done

    @property
    def done(self) -> int:
        """Updates made online."""
        return self.agent.updates - self._first_update

    def update(self) -> Metrics:
        """One gradient update; metrics stay on the device."""
        self.agent.actor_frozen = self.done < self.config.critic_warmup
        if self.config.bc_decay:
            left = max(0.0, 1.0 - self.interactions / self.config.bc_decay)
            start = self._agent_config
            self.agent.cfg = replace(start, bc_weight=start.bc_weight * left)
        return self.agent.update(self._source.sample(self._agent_config.batch_size, self._sampler))

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint needs beside the agent and the transitions."""
        return {
            "sampler": self._sampler.get_state(),
            "interactions": torch.tensor(self.interactions),
            "first_update": torch.tensor(self._first_update),
        }

    def load_state(self, state: dict[str, Tensor], rows: Rows) -> None:
        """Inverse of `state`; `rows` are the online transitions up to then."""
        self._sampler.set_state(state["sampler"].cpu())
        self._first_update = int(state["first_update"])
        self.online.extend(rows)
        self.interactions = int(state["interactions"])
