"""The online phase of a learner: when to update, on what, with which parts still frozen.

Both ways to fine-tune share it: `robot_rl.finetune`, where environment and learner take turns in one
process, and the bridge's learner, which is fed by actors.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robot_rl.algorithms.agent import Agent, Metrics
from robot_rl.algorithms.student import Student
from robot_rl.data.hindsight import Hindsight
from robot_rl.data.mixture import Mixture, Pool, of_sequences
from robot_rl.data.replay import Replay, TransitionSource
from robot_rl.data.transition import Rows
from robot_rl.device import restore_generator
from robot_rl.errors import ConfigError
from robot_rl.world_models.augment import AugmentConfig, Augmented, augmented

_log = logging.getLogger(__name__)

CORRECTIONS = 100_000  # steps of a person that are kept as demonstrations, at most: over an hour at 20 Hz


@dataclass(frozen=True, kw_only=True)
class OnlineConfig:
    """Schedule of the online phase. Interactions count every control step, warm-up included."""

    warmup: int = 1_000  # interactions before the first update, with the policy as it came; at random where none did
    critic_warmup: int = 0  # updates of the critics alone that follow the warm-up
    utd: float = 1.0  # updates per interaction (update-to-data ratio)
    offline_share: float = 0.5  # of each batch from the logged data, in [0, 1]; 0 drops them
    hindsight: float = 0.0  # of the online part, from ended episodes with what they reached as the goal, in [0, 1]
    capacity: int = 1_000_000  # online transitions kept for training; the oldest leave first
    bc_decay: int = 0  # interactions over which the cloning weight falls to 0; 0 keeps it
    world_model: Path | None = None  # run of `robot-rl world-model`: a share of each batch comes from it
    augment: AugmentConfig = field(default_factory=AugmentConfig)  # how the world model enters the batches
    refit_every: int = 0  # interactions after which the world model learns from all data anew; 0 never
    refit_epochs: int = 10  # passes over the data of such a refit, at most

    def __post_init__(self) -> None:
        for name in ("warmup", "critic_warmup", "bc_decay"):
            if getattr(self, name) < 0:
                raise ConfigError(f"--{name.replace('_', '-')} is {getattr(self, name)}; it must be 0 or more.")
        if self.world_model is None and (self.augment != AugmentConfig() or self.refit_every):
            raise ConfigError("--augment and --refit options need a model: name its run with --world-model RUN.")
        if self.refit_every < 0 or self.refit_epochs < 1:
            raise ConfigError(
                f"--refit-every is {self.refit_every} and --refit-epochs {self.refit_epochs}; "
                f"they must be at least 0 and 1."
            )
        if not 0 < self.utd < math.inf:
            raise ConfigError(f"--utd is {self.utd:g}; it must be above 0, and finite.")
        for name in ("offline_share", "hindsight"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"--{name.replace('_', '-')} is {getattr(self, name):g}; it must lie in [0, 1].")


class OnlineLearner:
    """An agent that learns from logged and incoming transitions.

    Where a person intervened, the step counts as a demonstration too: it is among the run's own data and joins the
    logged ones (HIL-SERL, arXiv 2410.21845). Without logged data, such steps are the logged side.

    Args:
        agent: The learner; pretrained or new.
        offline: Logged data; None without any.
        config: The schedule.
        seed: Of the batches.
        hindsight: Where `config.hindsight` asks for it.

    Raises:
        ConfigError: If the cloning weight is to decay, but the learner has none.
    """

    def __init__(
        self,
        agent: Agent,
        offline: TransitionSource | None,
        config: OnlineConfig,
        seed: int,
        hindsight: Hindsight | None = None,
    ) -> None:
        self.agent = agent
        self.config = config
        self.interactions = 0
        self.online = Replay(agent.spec, config.capacity, str(agent.device))
        self._offline = offline
        self.corrections = Replay(agent.spec, min(config.capacity, CORRECTIONS), str(agent.device))
        shown = self.corrections if offline is None else Pool(offline, self.corrections)
        self._hindsight = hindsight
        own = self.online if hindsight is None else Mixture(hindsight.replay, self.online, config.hindsight)
        self._source: TransitionSource = Mixture(shown, own, config.offline_share)
        self._augmented: Augmented | None = None
        if config.world_model is not None:
            self._source = self._augmented = augmented(self._source, config.world_model, config.augment, agent)
        if isinstance(agent, Student):
            of_sequences(self._source)  # refused now, not after the warm-up
        self._sampler = torch.Generator(agent.device).manual_seed(seed)
        self._first_update = agent.updates
        self._settled = 0  # updates owed by an earlier schedule, less those that this one asks for by then
        self._agent_config = agent.cfg
        if config.bc_decay and not hasattr(self._agent_config, "bc_weight"):
            raise ConfigError(
                f"--bc-decay is {config.bc_decay}, but {type(agent).__name__} has no cloning weight; leave it at 0."
            )

    def take(self, rows: Rows) -> None:
        """Add transitions that an actor took, (N,)."""
        self._keep(rows)
        self.agent.witness(rows)
        self.interactions += len(rows)

    def _keep(self, rows: Rows) -> None:
        usable = _finite(rows)
        if not usable.all():
            _log.warning(
                "%d of %d transitions hold a number that is not finite: counted, kept in the log, not learned from",
                len(rows) - int(usable.sum()),
                len(rows),
            )
            rows = rows[usable]
        self.online.extend(rows)
        if self._hindsight is not None:
            self._hindsight.take(rows)
        corrected = rows[rows["intervention"] != 0]
        if len(corrected):
            self.corrections.extend(corrected)

    @property
    def owed(self) -> int:
        """Updates that the schedule asks for and that were not made yet."""
        return self._asked + self._settled - self.done if self._warm else 0

    @property
    def _warm(self) -> bool:
        return self.interactions >= max(1, self.config.warmup)

    @property
    def _asked(self) -> int:
        """Updates that `config` asks for up to now."""
        config = self.config
        return config.critic_warmup + int((self.interactions - config.warmup) * config.utd) if self._warm else 0

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
        self._refit_when_due()
        return self.agent.update(self.agent.draw(self._source, self._sampler))

    def _refit_when_due(self) -> None:
        model, every = self._augmented, self.config.refit_every
        if model is None or not every or self.interactions // every <= model.refits:
            return
        logged = self._offline.episodes() if isinstance(self._offline, Replay) else ()
        episodes = [*logged, *self.online.episodes()]
        if len(episodes) < 2:  # none could be held out; the next one is soon there
            return
        model.refit(episodes, self.config.refit_epochs)
        model.refits = self.interactions // every  # those that the warm-up passed over are made up for by this one

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint needs beside the agent and the transitions."""
        return {
            "sampler": self._sampler.get_state(),
            "interactions": torch.tensor(self.interactions),
            "first_update": torch.tensor(self._first_update),
            "asked": torch.tensor(self._asked + self._settled),
        } | ({} if self._augmented is None else self._augmented.state())

    def load_state(self, state: dict[str, Tensor], rows: Rows) -> None:
        """Inverse of `state`; `rows` are the online transitions up to then.

        Another warm-up or ratio of updates holds from here on: for what was collected before, neither asks for more
        updates nor for none in a while.
        """
        restore_generator(self._sampler, state["sampler"])
        self._first_update = int(state["first_update"])
        self._keep(rows)
        self.interactions = int(state["interactions"])
        if "asked" in state:  # not in runs that were begun earlier
            asked = int(state["asked"])
            again = self._asked if self._warm or not asked else self.config.critic_warmup  # once the warm-up is over
            self._settled = asked - again
        if self._augmented is not None:
            self._augmented.load_state(state)


def _finite(rows: Rows) -> NDArray[np.bool_]:
    """Which transitions can be learned from, (N,)."""
    usable = np.isfinite(rows["reward"])
    for name in ("obs", "action", "next_obs"):
        usable &= np.isfinite(rows[name]).all(tuple(range(1, rows[name].ndim)))
    return usable
